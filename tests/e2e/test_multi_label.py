"""Several labels a text through every verb, on tickets whose tags follow from their words."""

import csv
import json
import re
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from e2e.cli import ENVIRONMENT, SMALL, feathertune, in_process, tickets
from e2e.server import serving
from feathertune.config import EngineConfig
from feathertune.predictor import load
from feathertune.records import load_study
from feathertune.report.wording import verdict_text

EXACT = EngineConfig(dtype="fp32", device="cpu")
FP32 = ["--set", "engine.dtype=fp32", "--set", "engine.device=cpu"]
PLAIN = """
import json, sys
from transformers import AutoModelForSequenceClassification, AutoTokenizer
folder, text = sys.argv[1:]
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
assert model.config.problem_type == "multi_label_classification"
batch = AutoTokenizer.from_pretrained(folder)([text], truncation=True, max_length=16, return_tensors="pt")
probabilities = model(**batch).logits.sigmoid()[0].tolist()
print(json.dumps({model.config.id2label[i]: p for i, p in enumerate(probabilities)}))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("tickets") / "tickets.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((text, "|".join(tags)) for text, tags in tickets(240))])
    return path


@pytest.fixture(scope="module")
def bundle(data, encoder, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundles") / "lora"
    given = ["--label-separator", "|", *SMALL, "--epochs", "12", "--set", "train.patience=12"]
    given += ["--set", "train.learning_rate=0.01", "--set", "engine.device=cpu", "--json"]
    result = feathertune("train", data, "--base", encoder, *given, "--out", out)
    assert result.code == 0, result.stderr
    scores = json.loads(result.stdout)
    assert scores["test"]["micro_f1"] > 0.9, "the words that decide are learned"
    assert scores["test"]["accuracy"] > 0.6
    return out, scores


def test_a_study(data, encoder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "study"
    given = ["--label-separator", "|", "--methods", "lora,head", *SMALL, "--set", "method.lora.learning_rate=0.01"]
    result = in_process(monkeypatch, capsys, "compare", data, "--base", encoder, *given, "--out", out)
    assert result.code == 0, result.stderr
    assert "A text may have several of the 4 labels, or none (data.task: multi_label)." in result.stderr
    assert "subset method accuracy 95% CI" in " ".join(result.stdout.split()), "a head of two lines"
    study = load_study(out)
    assert (study.status, study.data.task) == ("complete", "multi_label")
    assert sum(study.data.class_counts["test"]) != study.data.n_test
    for run in study.runs:
        assert 0 <= run.test.micro_f1 <= 1
        assert len(run.thresholds) == 4
        assert run.calibration.temperature > 0
        assert run.calibration.log_loss < np.log(2) + 0.05
        assert sum(decisions for decisions, _, _ in run.calibration.bins) == 4 * study.data.n_test
        table = pq.read_table(out / run.predictions)
        right = np.mean(
            [a == b for a, b in zip(table["label"].to_pylist(), table["predicted"].to_pylist(), strict=True)]
        )
        assert right == pytest.approx(run.test.accuracy)
    tfidf = next(run for run in study.runs if run.method == "tfidf")
    assert tfidf.test.micro_f1 > 0.9, "a word for each label"
    reasons = {reason.code: reason.parameters for reason in study.verdict.reasons}
    best = next(row for row in study.summary if row.method == study.verdict.recommended)
    assert reasons["recommended"]["score"] == best.score_mean
    assert reasons["untrained"]["chance"] is None
    assert f"{best.score_mean:.1%} subset accuracy (" in verdict_text(study)
    report = (out / "report.html").read_text(encoding="utf-8")
    for section in ("accuracy", "each-label", "learning"):
        assert f'<section id="{section}">' in report, section
    for words in ("<h2>Subset accuracy", "Micro F1", "LRAP", "praise", ">Decisions</th>"):
        assert words in report, words
    assert "could not be read" not in report
    mislabelled = (out / "mislabelled.csv").read_text(encoding="utf-8").splitlines()
    assert mislabelled[0].startswith("row,label,given,predicted,confidence")
    assert len(mislabelled) == study.n_mislabelled + 1
    again = in_process(monkeypatch, capsys, "report", out)
    assert again.code == 0, again.stderr


def test_evaluate_and_predict_agree(bundle, tmp_path, monkeypatch, capsys):
    out, _ = bundle
    rows = tickets(60, seed=7)
    with (tmp_path / "new.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((text, "|".join(tags)) for text, tags in rows)])
    scores = json.loads(in_process(monkeypatch, capsys, "evaluate", out, tmp_path / "new.csv", "--json", *FP32).stdout)
    for ending in ("jsonl", "csv", "parquet"):
        given = ["--input", tmp_path / "new.csv", "--output", tmp_path / f"out.{ending}"]
        assert in_process(monkeypatch, capsys, "predict", out, *given, *FP32).code == 0
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert list(found[0]) == ["text", "label", "labels", "probabilities"]
    right = np.mean([set(row["labels"]) == set(tags) for row, (_, tags) in zip(found, rows, strict=True)])
    assert right == pytest.approx(scores["accuracy"])
    assert scores["micro_f1"] > 0.9
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [row["labels"] for row in csv.DictReader(file)] == ["|".join(row["labels"]) for row in found]
    assert pq.read_table(tmp_path / "out.parquet")["labels"].to_pylist() == [row["labels"] for row in found]
    table = in_process(monkeypatch, capsys, "evaluate", out, tmp_path / "new.csv", *FP32)
    assert f" {scores['accuracy']:.2%} " in table.stdout
    lists = "".join(json.dumps({"text": text, "labels": tags}) + "\n" for text, tags in rows)
    (tmp_path / "new.jsonl").write_text(lists)
    again = in_process(monkeypatch, capsys, "evaluate", out, tmp_path / "new.jsonl", "--json", *FP32)
    assert json.loads(again.stdout) == pytest.approx(scores), "lists say the same as a separator"


def test_a_bundle_knows_its_thresholds(bundle):
    out, scores = bundle
    info = json.loads((out / "feathertune.json").read_text())
    assert info["task"] == "multi_label"
    assert len(info["threshold"]) == 4
    assert info["label_separator"] == "|"
    assert info["metrics"]["test"] == pytest.approx(scores["test"])
    card = (out / "README.md").read_text()
    assert 'problem_type="multi_label_classification"' in card
    assert "| subset accuracy |" in card
    ((labels, probabilities),) = load(out, engine=EXACT).predict(["the plot was bad"])
    least = dict(zip(info["labels"], info["threshold"], strict=True))
    assert labels == [label for label, p in probabilities.items() if p >= least[label]]


def test_served(bundle):
    pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")
    out, _ = bundle
    texts = [text for text, _ in tickets(6, seed=9)]
    with serving(f"tags={out}", *FP32) as server:
        status, answer = server.predict("tags", *texts)
        assert status == 200
        for found, (labels, probabilities) in zip(
            answer["predictions"], load(out, engine=EXACT).predict(texts), strict=True
        ):
            assert found["labels"] == labels
            assert found["probabilities"] == pytest.approx(probabilities, abs=1e-4)
        assert server.ask("GET", "/v1/models")[1]["models"][0]["task"] == "multi_label"


# The merged form goes through the same comparison and is asked by plain transformers, a process more.
@pytest.mark.parametrize("form", [pytest.param("merged", marks=pytest.mark.slow), "onnx"])
def test_exports(form, data, bundle, tmp_path, monkeypatch, capsys):
    if form == "onnx":
        pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
        pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
    (folder, _), out = bundle, tmp_path / form
    given = ["--to", form, "--out", out, "--data", data, "--rows", "60"]
    result = in_process(monkeypatch, capsys, "export", folder, *given)
    assert result.code == 0, result.stderr
    parity = json.loads((out / "parity.json").read_text())
    assert (parity["n_real"], parity["label_flips"]) == (60, 0)
    assert parity["accuracy_before"] == parity["accuracy_after"] > 0.6
    text = "the plot was bad"
    ((labels, expected),) = load(folder, engine=EXACT).predict([text])
    code = (
        PLAIN if form == "merged" else (out / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    )
    given = [out, text] if form == "merged" else [text]
    done = subprocess.run(
        [sys.executable, "-c", code, *given], cwd=out, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    if form == "onnx":
        assert found["labels"] == labels
        found = found["probabilities"]
    assert found == pytest.approx(expected, abs=1e-4)


def test_pairs_of_texts_with_several_labels(encoder, tmp_path, monkeypatch, capsys):
    rows = [
        {"premise": f"{text.partition(' ')[0]} {i}", "hypothesis": text.partition(" ")[2], "labels": tags}
        for i, (text, tags) in enumerate(tickets(80, seed=3))
    ]
    (tmp_path / "both.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["--base", encoder, *SMALL, *FP32, "--out", tmp_path / "both", "--test-size", "16"]
    result = in_process(monkeypatch, capsys, "train", tmp_path / "both.jsonl", *given)
    assert result.code == 0, result.stderr
    assert re.search(r"\btest +16 +\d+\.\d\d% ", result.stdout)
    asked = ["--text", rows[0]["premise"], "--text-pair", rows[0]["hypothesis"], *FP32]
    answer = json.loads(in_process(monkeypatch, capsys, "predict", tmp_path / "both", *asked).stdout)
    assert list(answer) == ["text", "text_pair", "labels", "probabilities"]
    ((labels, probabilities),) = load(tmp_path / "both", engine=EXACT).predict([(asked[1], asked[3])])
    assert answer["labels"] == labels
    assert answer["probabilities"] == pytest.approx(probabilities, abs=1e-6)
