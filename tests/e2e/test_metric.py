"""Unbalanced classes: balanced accuracy ranks the methods by default, from the settings to the report."""

import json

import pytest
import yaml

from e2e.cli import SMALL, in_process, reviews, write_csv
from feathertune.records import load_study

WHY = "Methods are ranked by balanced accuracy because 90.0% of the training rows are 'pos'"


@pytest.fixture(scope="module")
def rare(tmp_path_factory):
    """Nine of ten are positive."""
    rows = reviews(400)
    negative, positive = ([row for row in rows if row[1] == label] for label in ("neg", "pos"))
    return write_csv(tmp_path_factory.mktemp("rare") / "rare.csv", [*negative[:20], *positive[:180]])


def test_a_study_of_a_rare_class(encoder, rare, tmp_path, monkeypatch, capsys):
    out = tmp_path / "study"
    command = ("compare", rare, "--base", encoder, "--methods", "lora", *SMALL, "--out", out)
    result = in_process(monkeypatch, capsys, *command)
    assert result.code == 0, result.stderr
    assert WHY in result.stderr
    record = load_study(out)
    assert record.metric == "balanced_accuracy"
    assert {run.metric for run in record.runs} == {"balanced_accuracy"}
    rows = {row.method: row for row in record.summary}
    assert {row.metric for row in rows.values()} == {"balanced_accuracy"}
    assert rows["majority"].score_mean == 0.5
    for run in record.runs:
        if run.method != "foundation":
            assert rows[run.method].score_mean == pytest.approx(run.test.balanced_accuracy)
    (ranked_by,) = (reason.parameters for reason in record.verdict.reasons if reason.code == "ranked_by")
    assert (ranked_by["metric"], ranked_by["label"], ranked_by["chance"]) == ("balanced_accuracy", "pos", 0.5)
    assert ranked_by["share"] == pytest.approx(0.9, abs=0.01)
    stdout = " ".join(result.stdout.split())
    assert "balanced method accuracy 95% CI" in stdout, "a head of two lines"
    assert WHY in stdout
    (few,) = (caveat.parameters for caveat in record.verdict.caveats if caveat.code == "few_rows_of_class")
    assert (few["label"], few["n"]) == ("neg", record.data.class_counts["test"][0])
    assert "<h2>Balanced accuracy" in (out / "report.html").read_text(encoding="utf-8")
    lora = next(run for run in record.runs if run.method == "lora")
    lines = map(json.loads, (out / lora.metrics).read_text().splitlines())
    epochs = [line["validation_score"] for line in lines if line["event"] == "epoch"]
    assert epochs[lora.best_epoch - 1] == max(epochs) == lora.validation.balanced_accuracy
    settings = yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))
    assert settings["study"]["metric"] == "balanced_accuracy"
    assert in_process(monkeypatch, capsys, *command).code == 0, "the same study"
    other = in_process(monkeypatch, capsys, *command, "--metric", "accuracy")
    assert other.code == 2
    assert "study.metric: balanced_accuracy there, accuracy now" in other.stderr


def test_a_metric_that_the_task_lacks_is_refused(encoder, data, rare, monkeypatch, capsys):
    misspelt = in_process(monkeypatch, capsys, "compare", data, "--base", encoder, "--metric", "f1")
    assert misspelt.code == 2
    assert "study.metric" in misspelt.stderr
    sets = in_process(
        monkeypatch,
        capsys,
        *("compare", data, "--base", encoder, "--label-separator", "|", "--metric", "balanced_accuracy"),
    )
    assert sets.code == 2
    assert "study.metric is balanced_accuracy" in sets.stderr
    assert "data.task: multi_label" in sets.stderr
    assert "auto, accuracy" in sets.stderr
    assert "Traceback" not in sets.stderr
