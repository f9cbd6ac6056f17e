"""Labels that are numbers through every verb, on texts whose number follows from their words."""

import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from peft import PeftModel
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from e2e.cli import ENVIRONMENT, SMALL, feathertune, in_process, write_csv
from e2e.ratings import MIDDLE, ratings, write_ratings
from e2e.server import serving
from feathertune.baselines import BASELINES
from feathertune.config import EngineConfig
from feathertune.encoders import quiet_transformers
from feathertune.predictor import load
from feathertune.records import load_study
from feathertune.study.running.run_files import read_predictions
from feathertune.tasks import REGRESSION

EXACT = EngineConfig(dtype="fp32", device="cpu")
FP32 = ["--set", "engine.dtype=fp32", "--set", "engine.device=cpu"]
LABEL, SHORT = ["--label-column", "rating"], ["--max-length", "16"]
TEXT = "the film was great, very good"
PLAIN = """
import json, sys
from transformers import AutoModelForSequenceClassification, AutoTokenizer
folder, text = sys.argv[1:]
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
assert (model.config.problem_type, model.config.id2label) == ("regression", {0: "rating"})
batch = AutoTokenizer.from_pretrained(folder)([text], truncation=True, max_length=16, return_tensors="pt")
print(json.dumps({"label": model(**batch).logits.item()}))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_ratings(tmp_path_factory.mktemp("ratings") / "ratings.csv", 240)


@pytest.fixture(scope="module")
def bundle(data, encoder, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundles") / "lora"
    given = [*LABEL, *SMALL, "--epochs", "12", "--set", "train.patience=12"]
    given += ["--set", "train.learning_rate=0.01", "--set", "engine.device=cpu", "--json"]
    result = feathertune("train", data, "--base", encoder, *given, "--out", out)
    assert result.code == 0, result.stderr
    scores = json.loads(result.stdout)
    assert scores["test"]["spearman"] > 0.9, "the words that decide are learned"
    assert scores["test"]["r2"] > 0.8, "in the labels' unit"
    return out, scores


def test_a_study(data, encoder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "study"
    given = [*LABEL, "--methods", "lora,head", *SMALL, "--set", "method.lora.learning_rate=0.01"]
    result = in_process(monkeypatch, capsys, "compare", data, "--base", encoder, *given, "--out", out)
    assert result.code == 0, result.stderr
    assert "The label is a number, 'rating' (data.task: regression)" in result.stderr
    study = load_study(out)
    assert (study.status, study.data.task, study.metric) == ("complete", "regression", "spearman")
    assert (study.data.labels, study.data.class_counts) == ([], {})
    assert study.data.numbers["train"].mean == pytest.approx(MIDDLE, abs=5)
    for run in study.runs:
        assert (run.thresholds, run.calibration) == (None, None)
        saved = read_predictions(out / run.predictions)
        labels, predicted = saved.labels, saved.predicted
        assert pq.read_table(out / run.predictions).column_names == ["row", "label", "predicted"]
        assert run.test.mae == pytest.approx(mean_absolute_error(labels, predicted))
    assert study.descriptions["majority"] == BASELINES["majority"].described(REGRESSION)
    by_method = {run.method: run.test for run in study.runs}
    assert by_method["majority"].spearman == 0
    assert by_method["majority"].r2 == pytest.approx(0, abs=0.2)
    assert by_method["tfidf"].spearman > 0.9, "a word for each part of the number"
    trained = next(run for run in study.runs if run.method == "lora")
    # Of standard scores: a model that knows nothing has about 1, whatever the unit.
    assert 0 < trained.validation_losses[-1] < 2
    lines = (out / trained.metrics).read_text().splitlines()
    epochs = [line for line in map(json.loads, lines) if line["event"] == "epoch"]
    assert epochs
    assert all(-1 <= line["validation_score"] <= 1 for line in epochs)
    report = (out / "report.html").read_text(encoding="utf-8")
    assert "could not be read" not in report
    again = in_process(monkeypatch, capsys, "report", out)
    assert again.code == 0, again.stderr


def test_its_cost_estimate(data, encoder, monkeypatch, capsys):
    given = ["compare", data, *LABEL, "--base", encoder, "--methods", "lora", *SMALL, "--dry-run"]
    result = in_process(monkeypatch, capsys, *given)
    assert result.code == 0, result.stderr
    assert "labels   train: from 19" in result.stdout
    assert "classes " not in result.stdout


def test_evaluate_and_predict_agree(bundle, tmp_path, monkeypatch, capsys):
    out, _ = bundle
    rows = ratings(60, seed=7)
    new = write_ratings(tmp_path / "new.csv", 60, seed=7)
    scores = json.loads(in_process(monkeypatch, capsys, "evaluate", out, new, *LABEL, "--json", *FP32).stdout)
    for ending in ("jsonl", "csv", "parquet"):
        given = ["--input", new, "--output", tmp_path / f"out.{ending}"]
        assert in_process(monkeypatch, capsys, "predict", out, *given, *FP32).code == 0
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert list(found[0]) == ["text", "rating", "label"]
    labels, predicted = np.array([number for _, number in rows]), np.array([row["label"] for row in found])
    expected = {
        "spearman": spearmanr(labels, predicted).statistic,
        "pearson": pearsonr(labels, predicted).statistic,
        "r2": r2_score(labels, predicted),
        "mae": mean_absolute_error(labels, predicted),
        "rmse": root_mean_squared_error(labels, predicted),
        "n": 60,
    }
    assert scores == pytest.approx(expected)
    assert pq.read_table(tmp_path / "out.parquet")["label"].to_pylist() == predicted.tolist()
    table = in_process(monkeypatch, capsys, "evaluate", out, new, *LABEL, *FP32)
    assert f" {scores['spearman']:.3f} " in table.stdout
    whole = write_csv(tmp_path / "whole.csv", [(text, str(round(number))) for text, number in rows])
    again = in_process(monkeypatch, capsys, "evaluate", out, whole, "--json", *FP32)
    assert json.loads(again.stdout)["spearman"] > 0.9, "whole numbers are numbers to this bundle"
    bad = write_csv(tmp_path / "bad.csv", [*((text, "1.5") for text, _ in rows[:2]), ("a film", "good")])
    refused = in_process(monkeypatch, capsys, "evaluate", out, bad, *FP32)
    assert refused.code == 2
    assert "bad.csv, row 3: 'good'" in refused.stderr


def test_plain_peft_gives_the_unit(bundle, encoder):
    out, scores = bundle
    info = json.loads((out / "feathertune.json").read_text())
    assert (info["task"], info["labels"]) == ("regression", ["rating"])
    assert info["metrics"]["test"] == pytest.approx(scores["test"])
    ((number, probabilities),) = load(out, engine=EXACT).predict([TEXT])
    assert probabilities == {}
    with quiet_transformers():
        base = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=1)
        model = PeftModel.from_pretrained(base, out).eval()
        batch = AutoTokenizer.from_pretrained(out)([TEXT], truncation=True, max_length=16, return_tensors="pt")
    assert model(**batch).logits.item() == pytest.approx(number, abs=1e-2)
    assert number > MIDDLE + 5
    card = (out / "README.md").read_text()
    assert "# A number for each text: rating" in card
    assert "| Spearman's rank correlation |" in card
    assert "print(model(**batch).logits[0].item())" in card


def test_served(bundle):
    pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")
    out, _ = bundle
    texts = [text for text, _ in ratings(6, seed=9)]
    with serving(f"stars={out}", *FP32) as server:
        status, answer = server.predict("stars", *texts)
        assert status == 200
        expected = [number for number, _ in load(out, engine=EXACT).predict(texts)]
        assert [list(found) for found in answer["predictions"]] == [["label"]] * 6
        assert [found["label"] for found in answer["predictions"]] == pytest.approx(expected, abs=1e-2)
        assert server.ask("GET", "/v1/models")[1]["models"][0]["task"] == "regression"


# The merged form is asked by plain transformers, a process more.
@pytest.mark.parametrize(
    "form",
    [pytest.param("merged", marks=pytest.mark.slow), "onnx", pytest.param("onnx-int8", marks=pytest.mark.slow)],
)
def test_exports(form, data, bundle, tmp_path, monkeypatch, capsys):
    if form != "merged":
        pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
        pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
    (folder, _), out = bundle, tmp_path / form
    given = ["--to", form, "--out", out, "--data", data, *LABEL, "--rows", "60"]
    result = in_process(monkeypatch, capsys, "export", folder, *given)
    assert result.code == 0, result.stderr
    parity = json.loads((out / "parity.json").read_text())
    assert (parity["n_real"], parity["accuracy_before"]) == (60, None)
    assert parity["rank_correlation_before"] > 0.9
    ((expected, _),) = load(folder, engine=EXACT).predict([TEXT])
    rounds = form == "onnx-int8"
    if not rounds:
        assert parity["max_abs_difference"] <= parity["tolerance"] < 0.1
        assert parity["rank_correlation_after"] == pytest.approx(parity["rank_correlation_before"], abs=1e-3)
    card = (out / "README.md").read_text()
    assert "# A number for each text: rating" in card
    code = PLAIN if form == "merged" else card.partition("```python\n")[2].partition("```")[0]
    given = [out, TEXT] if form == "merged" else [TEXT]
    done = subprocess.run(
        [sys.executable, "-c", code, *given], cwd=out, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"label": pytest.approx(expected, abs=2.0 if rounds else 1e-2)}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--class-weights", "balanced"], "train.class_weights is balanced, which applies to classes"),
        (["--set", "train.decision=moved"], "train.decision is moved, which applies to classes"),
        (["--metric", "accuracy"], "study.metric is accuracy"),
        (["--shots", "8"], "--shots is 8, but the labels are numbers"),
        (["--set", "data.task=single_label"], "too few rows of"),
    ],
)
def test_what_is_of_classes_is_refused(given, said, data, encoder, tmp_path, monkeypatch, capsys):
    result = in_process(
        monkeypatch, capsys, "compare", data, *LABEL, "--base", encoder, *SMALL, *given, "--out", tmp_path / "out"
    )
    assert result.code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_rows_without_a_number(data, encoder, tmp_path, monkeypatch, capsys):
    rows = [*data.read_text().splitlines(), "a film,n/a", "a scene,"]
    broken = tmp_path / "broken.csv"
    broken.write_text("\n".join(rows) + "\n")
    train = ["train", broken, *LABEL, "--base", encoder, *SMALL, *FP32, "--out", tmp_path / "out"]
    train += ["--set", "data.task=regression"]
    refused = in_process(monkeypatch, capsys, *train)
    assert refused.code == 2
    assert "1 whose label is not a finite number (broken.csv, row 241: 'n/a')" in refused.stderr
    assert "1 without a label (broken.csv, row 242)" in refused.stderr
    assert in_process(monkeypatch, capsys, *train, "--drop-invalid", "--epochs", "1").code == 0


def test_inspect_looks_at_classes_only(data, encoder, monkeypatch, capsys):
    for given in ([], ["--set", "data.task=regression"]):
        result = in_process(monkeypatch, capsys, "inspect", data, *LABEL, "--base", encoder, *SHORT, *given)
        assert result.code == 2
        assert "are numbers, but inspect supports only classes" in result.stderr


def test_inspect_says_the_same_of_numbers_in_json(encoder, tmp_path, monkeypatch, capsys):
    (tmp_path / "in.jsonl").write_text('{"text": "a film", "label": 1}\n{"text": "a scene", "label": 2.5}\n')
    result = in_process(monkeypatch, capsys, "inspect", tmp_path / "in.jsonl", "--base", encoder, *SHORT)
    assert result.code == 2
    assert "in.jsonl, line 2: the label 2.5 is a number, but inspect supports only classes" in result.stderr
