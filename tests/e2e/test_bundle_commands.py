"""`feathertune train`, then `evaluate` and `predict` on what it wrote."""

import csv
import json
import shlex
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from e2e.cli import ENVIRONMENT, SMALL, feathertune, in_process, reviews, write_csv
from feathertune.predictor import load

TEXTS = ["the film was great", "a bad plot", 'it was "great",\nvery great', "very bad actors"]


@pytest.fixture(
    scope="module", params=["lora", *(pytest.param(name, marks=pytest.mark.slow) for name in ("shira", "full"))]
)
def bundle(request, encoder, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundles") / request.param
    rate = ["--set", "train.learning_rate=0.01", "--epochs", "15", "--set", "train.patience=15"]
    rate += ["--set", "method.shira.density=0.3"]
    result = feathertune(
        "train", data, "--base", encoder, "--method", request.param, *SMALL, *rate, "--out", out, "--json"
    )
    assert result.code == 0, result.stderr
    scores = json.loads(result.stdout)
    assert scores["test"]["accuracy"] > 0.9, "the word that decides is learned"
    return out, scores


def test_evaluate_gives_the_same_scores(bundle, data, monkeypatch, capsys, tmp_path):
    out, _ = bundle
    rows = reviews(40, seed=5)
    result = in_process(monkeypatch, capsys, "evaluate", out, write_csv(tmp_path / "new.csv", rows), "--json")
    assert result.code == 0
    assert json.loads(result.stdout)["n"] == 40
    assert json.loads(result.stdout)["accuracy"] > 0.9
    table = in_process(monkeypatch, capsys, "evaluate", out, data)
    assert "accuracy" in table.stdout
    wrong = write_csv(tmp_path / "wrong.csv", [("a", "pos"), ("b", "neutral")])
    refused = in_process(monkeypatch, capsys, "evaluate", out, wrong)
    assert refused.code == 2
    assert "has labels that the bundle was not trained on: neutral. Expected: neg, pos." in refused.stderr


def test_texts_files_and_stdin_agree(bundle, tmp_path, monkeypatch, capsys):
    out, _ = bundle
    one_line = [text.replace("\n", " ") for text in TEXTS]
    direct = in_process(monkeypatch, capsys, "predict", out, *(a for t in one_line for a in ("--text", t)))
    expected = [json.loads(line) for line in direct.stdout.splitlines()]
    assert [row["label"] for row in expected] == ["pos", "neg", "pos", "neg"]
    for row in expected:
        assert sum(row["probabilities"].values()) == pytest.approx(1)
        assert max(row["probabilities"], key=row["probabilities"].get) == row["label"]
    piped = feathertune("predict", out, stdin="\n".join(one_line) + "\n")
    assert [json.loads(line) for line in piped.stdout.splitlines()] == expected

    write_csv(tmp_path / "in.csv", [(text, str(i)) for i, text in enumerate(TEXTS)], ("review", "label"))
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in enumerate(TEXTS)))
    pq.write_table(pa.table({"text": TEXTS, "id": [0, 1, 2, 3]}), tmp_path / "in.parquet")
    (tmp_path / "in.txt").write_text("\n".join(one_line))
    for source in ("in.csv", "in.jsonl", "in.parquet", "in.txt"):
        target = tmp_path / f"{source}.out.jsonl"
        result = in_process(monkeypatch, capsys, "predict", out, "--input", tmp_path / source, "--output", target)
        assert result.code == 0, result.stderr
        rows = [json.loads(line) for line in target.read_text("utf-8").splitlines()]
        found = [list(row["probabilities"].values()) for row in rows]
        np.testing.assert_allclose(found, [list(row["probabilities"].values()) for row in expected], atol=1e-6)
    first = json.loads((tmp_path / "in.csv.out.jsonl").read_text().splitlines()[0])
    assert list(first) == ["review", "input_label", "label", "probabilities"]
    assert first["input_label"] == "0"


def test_output_formats(bundle, tmp_path, monkeypatch, capsys):
    out, _ = bundle
    source = write_csv(tmp_path / "in.csv", [(text, "x") for text in TEXTS], ("text", "id"))
    for name in ("out.csv", "out.tsv", "out.parquet"):
        result = in_process(monkeypatch, capsys, "predict", out, "--input", source, "--output", tmp_path / name)
        assert (result.code, result.stdout) == (0, "")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == TEXTS
    assert [row["label"] for row in rows] == ["pos", "neg", "pos", "neg"]
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names == ["text", "id", "label", "probabilities.neg", "probabilities.pos"]
    again = in_process(monkeypatch, capsys, "predict", out, "--input", source, "--output", tmp_path / "out.csv")
    assert again.code == 2
    assert "--overwrite" in again.stderr


def test_a_long_stream_stays_in_order(bundle, tmp_path, monkeypatch, capsys):
    out, _ = bundle
    monkeypatch.setattr("feathertune.predictor.CHUNK_TEXTS", 7)
    rows = [(f"the film was {'great' if i % 3 else 'bad'} {'very ' * (i % 5)}", str(i)) for i in range(50)]
    source = write_csv(tmp_path / "in.csv", rows, ("text", "id"))
    in_process(monkeypatch, capsys, "predict", out, "--input", source, "--output", tmp_path / "out.jsonl")
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in found] == [str(i) for i in range(50)]
    assert [row["label"] for row in found] == ["pos" if i % 3 else "neg" for i in range(50)]


def test_a_broken_row_is_named_and_the_rows_before_it_are_kept(bundle, tmp_path, monkeypatch, capsys):
    out, _ = bundle
    monkeypatch.setattr("feathertune.predictor.CHUNK_TEXTS", 2)
    source = write_csv(tmp_path / "in.csv", [("a", "1"), ("b", "2"), ("c", "3"), (" ", "4")], ("text", "id"))
    result = in_process(monkeypatch, capsys, "predict", out, "--input", source, "--output", tmp_path / "o.jsonl")
    assert result.code == 2
    assert "in.csv, row 4: the text is" in result.stderr
    assert not (tmp_path / "o.jsonl").exists()
    (partial,) = tmp_path.glob(".o.jsonl.*.partial")
    assert len(partial.read_text().splitlines()) == 2
    assert str(partial) in result.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--input", "none.csv"), "none.csv does not exist"),
        (("--text", "a", "--input", "x.csv"), "Both --text and --input"),
        (("--text", "a\0b"), "null byte"),
        (("--text", "\ud800"), "half a surrogate pair"),
        (("--text", "a", "--output", "x.docx"), "Expected one of .jsonl"),
        (("--text", "a", "--base", "sample:minilm"), "fingerprint"),
    ],
)
def test_refusals(bundle, monkeypatch, capsys, tmp_path, arguments, expected):
    out, _ = bundle
    if "sample:minilm" in arguments and out.name == "full":
        expected = ""  # a whole model needs no base
    monkeypatch.chdir(tmp_path)
    result = in_process(monkeypatch, capsys, "predict", out, *arguments)
    assert expected in result.stderr
    assert result.code == (2 if expected else 0)
    assert "Traceback" not in result.stderr


def test_a_reader_that_has_seen_enough_is_no_error(bundle):
    out, _ = bundle
    texts = "".join(f"the film was great {i}\n" for i in range(20_000))
    command = f"{sys.executable} -m feathertune predict {shlex.quote(str(out))} | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], input=texts, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False
    )
    assert json.loads(done.stdout)["label"] == "pos"
    assert done.stderr == ""
    assert done.returncode == 141


def test_python_gives_the_same(bundle, monkeypatch, capsys):
    out, _ = bundle
    predictor = load(out)
    assert predictor.labels == ("neg", "pos")
    assert predictor.probabilities([]).shape == (0, 2)
    ((label, probabilities),) = predictor.predict(["the film was great"])
    printed = in_process(monkeypatch, capsys, "predict", out, "--text", "the film was great").stdout
    assert json.loads(printed) == {"text": "the film was great", "label": label, "probabilities": probabilities}


def test_a_stream_is_taken_chunk_by_chunk(bundle, monkeypatch):
    predictor = load(bundle[0])
    monkeypatch.setattr("feathertune.predictor.CHUNK_TEXTS", 3)
    texts = [text for text, _ in reviews(8)]
    taken = []

    def stream():
        for text in texts:
            taken.append(text)
            yield text

    answers = predictor.predict(stream())
    next(answers)
    assert len(taken) == 3, "no more is held than a chunk"
    found = predictor.predict_proba(stream())
    np.testing.assert_allclose(found, predictor.probabilities(texts), atol=1e-6)
    np.testing.assert_array_equal([list(p.values()) for _, p in predictor.predict(texts)], found)
    assert predictor.predict_proba(iter(())).shape == (0, 2)
    monkeypatch.setattr("feathertune.predictor.CHUNK_CHARACTERS", 10)
    taken.clear()
    next(predictor.predict(stream()))
    assert len(taken) == 1, "long texts make short chunks"


def test_an_existing_folder_is_not_overwritten(bundle, encoder, data, tmp_path, monkeypatch, capsys):
    out, _ = bundle
    before = (out / "manifest.json").read_bytes()
    command = ("train", data, "--base", encoder, *SMALL)
    for folder in (out, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        result = in_process(monkeypatch, capsys, *command, "--out", folder)
        assert result.code == 2
        assert str(folder) in result.stderr
    assert (out / "manifest.json").read_bytes() == before
    assert (tmp_path / "mine.txt").read_text() == "mine"
