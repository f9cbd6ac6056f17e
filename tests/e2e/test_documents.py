"""What the README and the examples say is what runs."""

import re
import shlex
from pathlib import Path

import pytest

from e2e.cli import SMALL, in_process, reviews, write_csv
from feathertune.config import load_config
from feathertune.methods import METHODS
from feathertune.records import StudyRecord, load_study
from loopback_hub import loopback_hub, point_at

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.partition("#")[0].strip() for line in README.splitlines() if line.startswith("feathertune ")]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def test_the_readmes_two_commands_are_targets_and_ci_runs_the_tests():
    makefile = (ROOT / "Makefile").read_text()
    assert re.findall(r"^make (\w+)$", README, re.MULTILINE) == ["demo", "test"]
    for target in ("install", "demo", "test", "test-all", "check", "fix", "bench", "bench-engine", "docs"):
        assert re.search(rf"^{target}: \$\(INSTALLED\)|^{target}: ", makefile, re.MULTILINE), target
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_readmes_commands_run_in_their_order(encoder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "reviews.csv", reviews(60))
    write_csv(tmp_path / "more-reviews.csv", reviews(10, seed=3))
    write_csv(tmp_path / "new.csv", [(text, str(i)) for i, (text, _) in enumerate(reviews(5))], ("text", "id"))
    assert len(COMMANDS) >= 5
    for command in COMMANDS:
        words = [str(encoder) if word == "google-bert/bert-base-cased" else word for word in shlex.split(command)[1:]]
        small = SMALL if words[0] in ("compare", "train") else []
        result = in_process(monkeypatch, capsys, *words, *small)
        assert result.code == 0, (command, result.stderr)
    assert (tmp_path / "labelled.csv").is_file()


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
    assert (config.data.source, config.base.id) == ("hub:stanfordnlp/imdb", "google-bert/bert-base-cased")
    assert config.train.epochs == 30


def test_the_readmes_table_is_that_of_the_committed_study():
    from readme_table import with_table

    assert "| lora |" in README
    assert with_table(README) == README, "run `make docs`"


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


def test_the_page_of_methods_is_current_and_leaves_none_out():
    from make_methods import AT_DEFAULTS, MATCHED, page

    assert (ROOT / "docs" / "methods.md").read_text(encoding="utf-8") == page(), "run `make docs`"
    for path in (AT_DEFAULTS, MATCHED):
        study = StudyRecord.model_validate_json(path.read_text(encoding="utf-8"))
        rows = {row.method for row in study.summary} | set(study.left_out)
        assert rows >= set(METHODS.names()), path.name
