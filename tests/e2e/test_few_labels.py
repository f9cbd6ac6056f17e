"""Few labels: `compare --shots`, and `train` without validation rows."""

import json

import pytest

from e2e.cli import SMALL, in_process
from feathertune.bundle.files import read_info
from feathertune.records import load_study

FEW = [*SMALL, "--set", "train.min_steps=6"]


def test_a_study_of_few_labels(encoder, data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "study"
    command = ("compare", data, "--base", encoder, *FEW, "--methods", "lora,full:read=mean", "--shots", "8")
    command = (*command, "--seeds", "2")
    result = in_process(monkeypatch, capsys, *command, "--out", out)
    assert result.code == 0, result.stderr
    record = load_study(out)
    assert record.status == "complete"
    assert (record.data.shots, record.data.n_train, record.data.n_validation) == (8, 16, 0)
    runs = {run.id: run for run in record.runs}
    assert {"tfidf-n16-s1", "probe-n16-s0", "lora-n16-s0", "lora-n16-s1"} <= set(runs)
    assert all(run.validation is None and run.calibration is None for run in record.runs)
    assert {"full-read=mean-n16-s0", "full-read=mean-n16-s1"} <= set(runs)
    lora = runs["lora-n16-s0"]
    assert (lora.steps, lora.epochs, lora.best_epoch) == (6, 6, 6)
    assert lora.validation_losses == []
    words = "16 training (8 per class, drawn separately for each seed), no validation, 24 test rows"
    page = (out / "report.html").read_text(encoding="utf-8")
    assert words in page
    assert "intervals over seeds include the spread over draws" in page
    assert words in " ".join(result.stdout.split())
    assert "would more labels help?" not in page, "one number of rows is no curve"
    assert "still getting better" not in page, "the last epoch is always the one that is kept"
    assert "{" not in result.stdout
    assert in_process(monkeypatch, capsys, *command, "--out", out, "--json").code == 0, "only drawn again"


def test_the_cost_estimate_of_few_labels(encoder, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ("compare", data, "--base", encoder, *FEW, "--methods", "lora", "--shots", "4", "--dry-run", "--json")
    result = in_process(monkeypatch, capsys, *command)
    assert result.code == 0, result.stderr
    rows = {row["method"]: row for row in json.loads(result.stdout)["cost_estimate"]["rows"]}
    assert rows["lora"]["train_rows"] == 8
    assert rows["lora"]["seconds"]["train"] > 0


def test_a_bundle_without_validation_rows(encoder, data, tmp_path, monkeypatch, capsys):
    bundle = tmp_path / "bundle"
    command = ("train", data, "--base", encoder, *FEW, "--validation-size", "0", "--out", bundle)
    result = in_process(monkeypatch, capsys, *command, "--test-size", "0")
    assert result.code == 0, result.stderr
    assert "No validation or test rows to score on." in result.stdout
    info = read_info(bundle)
    assert (info.data.n_validation, info.metrics) == (0, {})
    card = (bundle / "README.md").read_text(encoding="utf-8")
    assert "There was no test or validation set" in card
    assert in_process(monkeypatch, capsys, "predict", bundle, "--text", "a great film").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("compare", "--shots", "1000"), "--shots is 1,000, but the class 'neg' has only 48"),
        (("compare", "--shots", "8", "--validation-size", "10"), "uses all labelled rows for training"),
        (("train", "--set", "data.shots=8"), "shots work only in a comparison"),
    ],
)
def test_what_cannot_be(words, said, encoder, data, tmp_path, monkeypatch, capsys):
    verb, *options = words
    result = in_process(monkeypatch, capsys, verb, data, "--base", encoder, *FEW, *options, "--out", tmp_path / "out")
    assert result.code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()
