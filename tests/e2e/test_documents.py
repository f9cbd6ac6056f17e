"""What the README, the pages of docs/ and the examples say is what runs."""

import dataclasses
import os
import re
import subprocess
import sys
import tomllib
import traceback
from pathlib import Path

import pytest

from e2e.cli import SMALL, in_process, reviews, write_csv
from e2e.pages import DOCS, Block, Runner, blocks
from feathertune.config import load_config
from feathertune.methods import METHODS
from feathertune.records import StudyRecord, load_study
from loopback_hub import loopback_hub, point_at
from packages import make_distribution
from tiny import needs_sample_encoder

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
# Run by tests of their own: one looks at what was pushed, the other needs a server.
OWN_TEST = {"python.md", "serving.md"}
PAGES = [p for p in sorted(DOCS.glob("*.md")) if p.name not in OWN_TEST and any(block.is_run for block in blocks(p))]
# Pages of several studies each: what the others run shows most of the same sooner.
SLOW = {
    "index.md",
    "concepts.md",
    "statistics.md",
    "quickstart.md",
    "article.md",
    "cost.md",
    "tracking.md",
    "search.md",
    "tasks.md",
    "long.md",
    "few-labels.md",
    "numbers.md",
    "methods.md",
}


def test_the_readmes_two_commands_are_targets_and_ci_runs_the_tests():
    makefile = (ROOT / "Makefile").read_text()
    assert re.findall(r"`make (\w+)`", README) == ["demo", "test"]
    for target in ("install", "demo", "test", "test-all", "check", "fix", "bench", "bench-engine", "docs", "site"):
        assert re.search(rf"^{target}: \$\(INSTALLED\)|^{target}: ", makefile, re.MULTILINE), target
    assert "make test" in (ROOT / ".ci" / "run").read_text()


@pytest.fixture
def desk(tmp_path, monkeypatch, encoder):
    """The folder that every page begins in: a reader's data, and the examples of the repository, made small."""
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "reviews.csv", reviews(60))
    write_csv(tmp_path / "more-reviews.csv", reviews(10, seed=3))
    write_csv(tmp_path / "new.csv", [(text, str(i)) for i, (text, _) in enumerate(reviews(5))], ("text", "id"))
    (tmp_path / "examples").mkdir()
    for example in EXAMPLES:
        content = Runner(encoder, in_process).in_place(example.read_text(encoding="utf-8"))
        (tmp_path / "examples" / example.name).write_text(content, encoding="utf-8")
    return tmp_path


def slow_where(page):
    return pytest.param(page, id=page.name, marks=[pytest.mark.slow] if page.name in SLOW else [])


def test_the_readmes_commands_run_in_their_order(desk, encoder, monkeypatch, capsys):
    runner = Runner(encoder, lambda *words: in_process(monkeypatch, capsys, *words))
    found = [block for block in blocks(ROOT / "README.md") if block.is_run]
    assert sum(block.code.count("feathertune ") for block in found) >= 4
    for block in found:
        # Without data it is the demonstration on real reviews.
        runner.run(dataclasses.replace(block, code=block.code.replace("compare --out", "compare reviews.csv --out")))


@pytest.mark.parametrize("page", [slow_where(page) for page in PAGES])
def test_every_block_of_a_page_runs(page, desk, encoder, monkeypatch, capsys):
    runner = Runner(encoder, lambda *words: in_process(monkeypatch, capsys, *words))
    with loopback_hub() as hub:
        if any("push" in block.code for block in blocks(page)):
            point_at(monkeypatch, hub.endpoint)
        for block in blocks(page):
            runner.run(block)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@needs_sample_encoder
def test_the_quickstart_runs_as_it_stands(desk, encoder, monkeypatch, capsys):
    runner = Runner(encoder, lambda *words: in_process(monkeypatch, capsys, *words), small=False)
    for block in blocks(DOCS / "quickstart.md"):
        runner.run(block)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("cp a b", "'cp' is not run"),
        ("feathertune predict nowhere --text x", "nowhere"),
    ],
)
def test_a_command_that_does_not_run_is_found(code, message, desk, encoder, monkeypatch, capsys):
    runner = Runner(encoder, lambda *words: in_process(monkeypatch, capsys, *words))
    with pytest.raises(AssertionError, match=message):
        runner.run(Block("page.md", 7, "sh", code))


def test_python_that_does_not_run_is_found_where_it_stands(desk, encoder):
    runner = Runner(encoder, in_process)
    runner.run(Block("page.md", 7, "python", "x = 1"))
    with pytest.raises(ZeroDivisionError) as error:
        runner.run(Block("page.md", 9, "python", "y = x\n1 / 0"))
    last = traceback.extract_tb(error.tb)[-1]
    assert (last.filename, last.lineno) == ("page.md:9", 10)
    with pytest.raises(AssertionError, match=r"say in pages\.py how 'rust' is run"):
        runner.run(Block("page.md", 7, "rust", ""))


def test_blocks_know_what_the_comment_above_says(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- not run: it takes a day -->\n```sh\nfeathertune train a\n```\n\n"
        "<!-- file: a/b.py -->\n```python\nx\n```\n"
        "<!--\n```python\nhidden\n```\n-->\n```\nfeathertune train b\n```\n```\nsrc/\n```\n"
    )
    assert [(b.line, b.not_run, b.file, b.is_run, b.is_commands) for b in blocks(page)] == [
        (3, "it takes a day", None, False, True),
        (8, None, "a/b.py", True, False),
        (12, None, None, True, False),
        (16, None, None, True, True),
        (19, None, None, False, False),
    ]


@pytest.mark.parametrize(
    ("page", "code"),
    [
        ("adding-a-method.md", "from feathertune.methods import METHODS as found; print(found['toy'].options().r)"),
        (
            "adding-a-data-source.md",
            "import sqlite3; from feathertune.data.sources.registry import load_source\n"
            "with sqlite3.connect('support.db') as database:\n"
            "    database.execute('create table tickets (text, team, part)')\n"
            "    rows = [('no light', 'power', 'train'), ('no water', 'pipes', 'test'), ('odd', None, 'test')]\n"
            "    database.executemany('insert into tickets values (?, ?, ?)', rows)\n"
            "data = load_source('tickets:support.db')\n"
            "assert (data.texts, data.labels) == (['no light', 'no water'], ['power', 'pipes'])\n"
            "assert data.split == ['train', 'test']\n"
            "assert 'torch' not in __import__('sys').modules\n",
        ),
    ],
)
def test_the_package_of_a_page_is_found(page, code, tmp_path):
    found = {block.language: block for block in blocks(DOCS / page) if block.file or block.language == "toml"}
    groups = tomllib.loads(found["toml"].code)["project"]["entry-points"]
    (tmp_path / found["python"].file).parent.mkdir()
    make_distribution(tmp_path, "my-package", groups, {found["python"].file: found["python"].code})
    paths = [str(tmp_path), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_example_runs_made_small(example, encoder, data, tmp_path, monkeypatch, capsys):
    config = load_config(example)
    command = ("compare", data, "--config", example, "--base", encoder, *SMALL, "--out", tmp_path / "study")
    result = in_process(monkeypatch, capsys, *command)
    assert result.code == 0, result.stderr
    study = load_study(tmp_path / "study")
    assert set(config.study.methods) <= {run.method for run in study.runs}
    assert study.data.source == str(data), "the command line wins over the file"
    for method, options in config.method.items():
        for run in study.runs:
            if run.method == method:
                assert options.items() <= run.hyperparameters.items()


def test_the_article_runs_both_meanings_of_its_r():
    config = load_config(ROOT / "examples" / "article.yaml")
    assert {"lora", "shira"} <= set(config.study.methods)
    assert (config.method["lora"]["r"], config.method["shira"]["density"]) == (8, 0.2)
    assert (config.data.source, config.one_base().id) == ("hub:stanfordnlp/imdb", "google-bert/bert-base-cased")
    assert config.train.epochs == 30


def test_the_tables_of_results_and_costs_are_those_of_the_records():
    from make_readme import with_costs, with_table

    costs = (DOCS / "cost.md").read_text(encoding="utf-8")
    assert "| `lora` |" in README
    assert "| lora |" in costs
    assert with_table(README) == README, "run `make docs`"
    assert with_costs(costs) == costs, "run `make docs`"


@pytest.mark.slow
def test_the_blocks_of_the_page_on_python_run(encoder, tmp_path, monkeypatch):
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == page.count("```python") >= 8
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "reviews.csv", reviews(60))
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text, _ in reviews(5)))
    names: dict[str, object] = {}
    with loopback_hub() as hub:
        point_at(monkeypatch, hub.endpoint)
        for block in blocks:
            exec(block.replace('"sample:minilm"', repr(str(encoder))), names)
        assert hub.repositories.keys() == {"someone/reviews"}
    for folder in ("my-adapter", "my-bundle", "my-study", "my-model"):
        assert any((tmp_path / folder).iterdir()), folder


def test_the_reference_is_current():
    from make_reference import reference

    assert (ROOT / "docs" / "reference.md").read_text(encoding="utf-8") == reference(), "run `make docs`"


def test_the_pages_of_methods_are_current_and_leave_none_out():
    from make_methods import AT_DEFAULTS, TABLE, table, with_tables

    written = (DOCS / "methods.md").read_text(encoding="utf-8")
    assert "| accuracy, 95% CI |" in written
    assert "| cannot serve |" in written
    assert with_tables(written) == written, "run `make docs`"
    properties = TABLE.read_text(encoding="utf-8")
    assert properties == table(), "run `make docs`"
    assert {f"## {name}" for name in METHODS.names()} <= set(properties.splitlines())
    # A new method has no row in the committed studies: the page says so, and no study has to run again.
    study = StudyRecord.model_validate_json(AT_DEFAULTS.read_text(encoding="utf-8"))
    older = study.model_copy(update={"summary": [row for row in study.summary if row.method != "lora"]})
    assert "Not measured yet: [lora](methods-table.md#lora)." in with_tables(written, older)
    assert "Not measured yet" not in written


def test_the_tables_of_light_methods_are_current():
    from make_light_methods import PAGE, with_tables

    page = PAGE.read_text(encoding="utf-8")
    assert with_tables(page) == page, "run `make docs`"
    assert page.count("made by docs/make_light_methods.py") == 3


def test_figures_and_numbers_of_the_pages_are_current():
    from make_concepts import with_numbers
    from make_figures import FOLDER, figures

    drawn = figures()
    assert {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()} == drawn, "run `make docs`"
    for name, parts in (("concepts.md", 7), ("statistics.md", 4)):
        text = (DOCS / name).read_text(encoding="utf-8")
        assert with_numbers(text) == text, "run `make docs`"
        assert text.count("made by docs/make_concepts.py") == parts
