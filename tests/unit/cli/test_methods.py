import json
import re
import sys

import pytest

from e2e.cli import feathertune, in_process
from feathertune.baselines import BASELINES
from feathertune.cli.output import tables
from feathertune.cli.output.method_tables import methods_text
from feathertune.encoders import load_encoder
from feathertune.methods import METHODS
from feathertune.methods.describe import describe, traits
from tiny import save_tiny_encoder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("describe") / "tiny-bert", "bert")


@pytest.fixture(scope="module")
def encoder(base):
    return load_encoder(str(base), labels=("a", "b", "c"), seed=0)


def test_the_list_has_every_name_and_fits_its_width():
    text = methods_text()
    lines = text.splitlines()
    assert max(map(len, lines)) <= 130
    for name in (*METHODS.names(), *BASELINES.names()):
        assert any(line.startswith(f"{name} ") for line in lines), name
    assert re.search(r"^prompt +peft +num_virtual_tokens +no ", text, re.MULTILINE)
    assert "arXiv:2106.09685" in text


def test_a_narrow_terminal_gets_fewer_columns(monkeypatch):
    monkeypatch.setattr("feathertune.cli.output.method_tables.width", lambda: 80)
    monkeypatch.setattr(tables, "width", lambda: 80)
    text = methods_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "arXiv" not in text
    assert len(text.splitlines()) < 110


@pytest.mark.parametrize("words", [["methods", "--json"], ["methods", "list", "--json"]])
def test_as_json_a_method_has_all_that_is_known_of_it(words, monkeypatch, capsys):
    rows = {row["name"]: row for row in json.loads(in_process(monkeypatch, capsys, *words).stdout)}
    assert list(rows) == [*METHODS.names(), *BASELINES.names()]
    lora, full, prompt = rows["lora"], rows["full"], rows["prompt"]
    assert (lora["size_option"], lora["last_layers"], lora["mergeable"], lora["zero_init"]) == ("r", True, True, True)
    assert (full["size_option"], full["last_layers"]) == (None, False)
    assert (prompt["mergeable"], prompt["changes_input"], prompt["zero_init"]) == (False, True, False)
    assert lora["search_space"]["r"] == [2, 8, 32]
    assert lora["options"]["r"] == 8
    assert full["learning_rate"] == full["options"]["learning_rate"]
    assert (lora["learning_rate"], full["scaled_rate"]) == (None, None)
    assert lora["scaled_rate"]["highest"] > lora["scaled_rate"]["lowest"]


@pytest.mark.parametrize("name", METHODS.names())
def test_each_method_is_described_and_its_parts_add_up(name, encoder):
    method = METHODS[name]
    if method.refusal(encoder):
        return
    before = {key: value.clone() for key, value in encoder.model.state_dict().items()}
    found = describe(method, method.options(), encoder, max_length=16)
    assert found.head == sum(p.numel() for n, p in encoder.model.named_parameters() if "classifier" in n)
    assert (found.adapter > 0) == (name != "head")
    assert bool(found.modules) == (name != "head")
    assert not any("classifier" in module.pattern for module in found.modules)
    after = encoder.model.state_dict()
    assert after.keys() == before.keys()
    assert all((after[key] == value).all() for key, value in before.items())
    known = traits(method)
    assert set(found.options) == set(known.options)


def test_modules_are_grouped_by_what_differs_in_a_number(encoder):
    found = describe(METHODS["lora"], METHODS["lora"].options(target_modules="query-value"), encoder)
    assert [(m.pattern, m.count, m.shape) for m in found.modules] == [
        ("bert.encoder.layer.*.attention.self.query", 2, (32, 32)),
        ("bert.encoder.layer.*.attention.self.value", 2, (32, 32)),
    ]
    assert found.adapter == 4 * 8 * 64
    assert found.as_json()["bytes"] == 4 * found.total
    assert found.as_json()["percent"] == pytest.approx(100 * found.adapter / encoder.n_parameters)


def test_show_says_options_modules_and_numbers(base, monkeypatch, capsys):
    command = ("methods", "show", "lora", "--base", base, "--top-layers", 1, "--set", "method.lora.r=4", "--labels", 3)
    result = in_process(monkeypatch, capsys, *command)
    assert result.code == 0, result.stderr
    assert METHODS["lora"].when in result.stdout
    assert re.search(r"^r +8 +4 *$", result.stdout, re.MULTILINE)
    assert re.search(r"^top_layers +null +1 *$", result.stdout, re.MULTILINE)
    assert re.search(r"layer\.\*\.attention\.self\.query +1 +\(32, 32\)", result.stdout)
    assert re.search(r"^head +99 *$", result.stdout, re.MULTILINE)
    assert "in fp32" in result.stdout
    both = json.loads(in_process(monkeypatch, capsys, *command, "--json").stdout)
    assert both["name"] == "lora"
    assert both["on"]["options"]["r"] == 4
    assert both["on"]["total"] == both["on"]["adapter"] + both["on"]["head"]


def test_show_sizes_a_method_to_a_budget_and_says_where_it_cannot(base, monkeypatch, capsys):
    command = ("--base", base, "--match-parameters", 5_000, "--max-length", 16)
    lora = in_process(monkeypatch, capsys, "methods", "show", "lora", *command)
    assert re.search(r"^r +8 +6 *$", lora.stdout, re.MULTILINE), lora.stdout
    bitfit = in_process(monkeypatch, capsys, "methods", "show", "bitfit", *command)
    assert "the budget is 5,000, but its size is fixed" in bitfit.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["lorra"], "Did you mean 'lora'?"),
        (["all"], "means every method"),
        (["lora", "--set", "method.lora.r=33"], "Set r to 32 or less"),
        (["adalora", "--set", "method.adalora.target_r=30"], "Option 'target_r' of method 'adalora' is 45"),
        (["lora", "--match-parameters", "abc"], "expected a share"),
        (["lora", "--base", "nowhere/to-be-found"], "nowhere/to-be-found"),
    ],
)
def test_what_cannot_be_shown_is_said(arguments, expected, base, monkeypatch, capsys):
    given = arguments if "--base" in arguments else [*arguments, "--base", base]
    result = in_process(monkeypatch, capsys, "methods", "show", *given)
    assert (result.code, result.stdout) == (2, "")
    assert expected in result.stderr
    assert "Traceback" not in result.stderr


def test_the_list_and_a_wrong_name_load_no_torch():
    code = (
        "import sys\nfrom feathertune.cli import main\n"
        "sys.argv = ['feathertune', 'methods', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('torch' in sys.modules)\n"
    )
    import subprocess

    for words in ([], ["--json"], ["show", "lorra"]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
        assert done.stdout.endswith("False\n")


def test_help_tells_of_show():
    assert "show" in feathertune("methods", "--help").stdout
