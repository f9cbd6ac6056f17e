"""Pairs of texts through every verb.

The rows are made of real sentences: the halves of one film sentence belong together, halves of two do not. That is no
benchmark (a tiny random encoder learns nothing of it), but the words, lengths and characters are those of people.
"""

import csv
import json
import random
import subprocess
import sys

import numpy as np
import pytest

from e2e.cli import ENVIRONMENT, SMALL, feathertune, in_process
from e2e.server import serving
from feathertune.config import EngineConfig
from feathertune.data.reading.texts import Pair
from feathertune.data.sources.collector import ReadOptions
from feathertune.data.sources.samples import load_sample
from feathertune.errors import MissingExtraError
from feathertune.predictor import load
from feathertune.records import load_study

COLUMNS = ("opening", "ending")
EXACT = EngineConfig(dtype="fp32", device="cpu")
FP32 = ["--set", "engine.dtype=fp32", "--set", "engine.device=cpu"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A CSV of 200 rows, and its rows."""
    try:
        sentences = load_sample("rotten-tomatoes", ReadOptions()).texts
    except MissingExtraError:
        pytest.skip("the extra 'samples' is not installed")
    rng = random.Random(0)
    halves = [text.split() for text in rng.sample(list(sentences), 400) if len(text.split()) >= 6][:200]
    rows = []
    for number, words in enumerate(halves):
        together = number % 2 == 0
        other = words if together else halves[number - 1]
        first, second = words[: len(words) // 2], other[len(other) // 2 :]
        rows.append((" ".join(first), " ".join(second), "same" if together else "other"))
    path = tmp_path_factory.mktemp("pairs") / "halves.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([(*COLUMNS, "label"), *rows])
    return path, rows


@pytest.fixture(scope="module")
def bundle(pairs, encoder, tmp_path_factory):
    path, _ = pairs
    out = tmp_path_factory.mktemp("bundles") / "lora"
    given = ["--text-column", ",".join(COLUMNS), *SMALL, "--max-length", "24", "--set", "train.learning_rate=0.01"]
    result = feathertune("train", path, "--base", encoder, *given, "--out", out)
    assert result.code == 0, result.stderr
    assert "Each row is a pair of texts (opening and ending)" in result.stderr
    assert '--text "..." --text-pair "..."' in result.stdout
    return out


def test_a_study(pairs, encoder, tmp_path, monkeypatch, capsys):
    path, rows = pairs
    out = tmp_path / "study"
    given = ["--text-column", "opening, ending", "--methods", "lora,head", *SMALL, "--max-length", "24"]
    result = in_process(monkeypatch, capsys, "compare", path, "--base", encoder, *given, "--out", out)
    assert result.code == 0, result.stderr
    study = load_study(out)
    assert study.status == "complete"
    assert study.data.text_columns == ["opening", "ending"]
    assert 0 < study.bases[0].truncated_fraction < 1
    assert {run.method for run in study.runs} >= {"majority", "tfidf", "foundation", "probe", "lora", "head"}
    report = (out / "report.html").read_text(encoding="utf-8")
    assert "pairs: <bdi>opening</bdi>, <bdi>ending</bdi>" in report
    shown = [text for text, *_ in rows if text.split()[0].isalpha() and text in report]
    assert not shown or " \N{DOUBLE VERTICAL LINE} " in report, "an example shows both texts"


def test_evaluate_and_predict_agree(pairs, bundle, tmp_path, monkeypatch, capsys):
    path, rows = pairs
    scores = json.loads(in_process(monkeypatch, capsys, "evaluate", bundle, path, "--json", *FP32).stdout)
    target = tmp_path / "out.jsonl"
    assert in_process(monkeypatch, capsys, "predict", bundle, "--input", path, "--output", target, *FP32).code == 0
    found = [json.loads(line) for line in target.read_text("utf-8").splitlines()]
    assert [(row["opening"], row["ending"], row["input_label"]) for row in found] == rows
    right = np.mean([row["label"] == row["input_label"] for row in found])
    assert right == pytest.approx(scores["accuracy"])
    (first, second, _), other = rows[0], rows[7][1]
    given = ["--text", first, "--text-pair", second, "--text", first, "--text-pair", other]
    direct = in_process(monkeypatch, capsys, "predict", bundle, *given, *FP32)
    lines = [json.loads(line) for line in direct.stdout.splitlines()]
    assert (lines[0]["text"], lines[0]["text_pair"]) == (first, second)
    assert lines[0]["probabilities"] == pytest.approx(found[0]["probabilities"], abs=1e-5)
    assert lines[1]["probabilities"]["same"] != pytest.approx(lines[0]["probabilities"]["same"], abs=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--text", "a"], "reads pairs. Pass a --text-pair for each --text."),
        (["--text", "a", "--text", "b", "--text-pair", "c"], "--text-pair was given 1 times, --text 2 times."),
        (["--input", "-"], "a line of stdin is a single text. Pass --input FILE with two columns"),
        (["--input", "one.csv"], "has no columns opening and ending. The bundle was trained on pairs"),
    ],
)
def test_what_is_no_pair_is_refused(bundle, given, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "one.csv").write_text("text\na\n")
    monkeypatch.chdir(tmp_path)
    refused = in_process(monkeypatch, capsys, "predict", bundle, *given)
    assert refused.code == 2
    assert message in refused.stderr


def test_served_pairs(pairs, bundle):
    pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")
    _, rows = pairs
    asked = [Pair(*row[:2]) for row in rows[:5]]
    expected = load(bundle, engine=EXACT).predict(asked)
    with serving(f"halves={bundle}", *FP32) as server:
        body = {"texts": [pair.text for pair in asked], "text_pairs": [pair.text_pair for pair in asked]}
        status, answer = server.ask("POST", "/v1/models/halves:predict", body)
        assert status == 200
        for found, (label, probabilities) in zip(answer["predictions"], expected, strict=True):
            assert found["probabilities"] == pytest.approx(probabilities, abs=1e-4)
            assert found["label"] == label
        for wrong in ({"texts": ["a"]}, {"texts": ["a", "b"], "text_pairs": ["c"]}):
            status, answer = server.ask("POST", "/v1/models/halves:predict", wrong)
            assert (status, answer["detail"][0]["loc"]) == (422, ["body", "text_pairs"])
            assert "classifies pairs of texts" in answer["detail"][0]["msg"]
        assert server.ask("GET", "/v1/models")[1]["models"][0]["text_columns"] == ["opening", "ending"]


@pytest.mark.parametrize("form", ["merged", "onnx"])
def test_exports(form, pairs, bundle, tmp_path, monkeypatch, capsys):
    if form == "onnx":
        pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
        pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
    path, rows = pairs
    out = tmp_path / form
    given = ["--data", path, "--rows", "50"]
    result = in_process(monkeypatch, capsys, "export", bundle, "--to", form, "--out", out, *given)
    assert result.code == 0, result.stderr
    parity = json.loads((out / "parity.json").read_text())
    assert (parity["n_real"], parity["label_flips"]) == (50, 0)
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "It classifies pairs of texts (`opening`, `ending`). Pairs longer than 24 tokens are " in card
    assert '["A text."], ["Another."]' in card or "tokenizer.encode(*pair)" in card
    if form == "onnx":
        script = card.partition("```python\n")[2].partition("```")[0]
        done = subprocess.run(
            [sys.executable, "-c", script, *rows[0][:2]], cwd=out, env=ENVIRONMENT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        ((_, expected),) = load(bundle, engine=EXACT).predict([Pair(*rows[0][:2])])
        assert json.loads(done.stdout)["probabilities"] == pytest.approx(expected, abs=1e-4)
