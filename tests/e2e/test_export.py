"""`feathertune export`: what it writes gives the answers of `feathertune predict`, without feathertune."""

import json
import subprocess
import sys

import numpy as np
import pytest

from e2e.cli import ENVIRONMENT, SMALL, feathertune, in_process
from feathertune.export import Parity

TEXTS = ["the film was great", "a bad plot", "very great", "very bad actors", "it was the scene"]
PLAIN = """
import json, sys
from transformers import AutoModelForSequenceClassification, AutoTokenizer
folder, *texts = sys.argv[1:]
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
rows = []
for text in texts:
    logits = model(**tokenizer([text], truncation=True, max_length=16, return_tensors="pt")).logits[0]
    probabilities = logits.softmax(-1).tolist()
    labels = [model.config.id2label[i] for i in range(len(probabilities))]
    rows.append({"label": labels[logits.argmax()], "probabilities": dict(zip(labels, probabilities))})
assert "peft" not in sys.modules and "feathertune" not in sys.modules
print(json.dumps(rows))
"""


def trained(method, encoder, data, out):
    rate = ["--set", "train.learning_rate=0.01", "--set", "engine.device=cpu"]
    result = feathertune("train", data, "--base", encoder, "--method", method, *SMALL, *rate, "--out", out, "--quiet")
    assert result.code == 0, result.stderr
    return out


@pytest.fixture(scope="module", params=["lora", "bitfit"])
def bundle(request, encoder, data, tmp_path_factory):
    return trained(request.param, encoder, data, tmp_path_factory.mktemp("bundles") / request.param)


def test_plain_transformers_gives_the_same_predictions(bundle, tmp_path, monkeypatch, capsys):
    out = tmp_path / "merged"
    result = in_process(monkeypatch, capsys, "export", bundle, "--to", "merged", "--out", out)
    assert (result.code, result.stderr) == (0, "")
    assert f"Written: {out}" in result.stdout
    assert "; 0 labels differ" in result.stdout
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, out, *TEXTS], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    given = [word for text in TEXTS for word in ("--text", text)]
    predicted = in_process(monkeypatch, capsys, "predict", bundle, *given, "--set", "engine.dtype=fp32")
    for plain, line in zip(json.loads(done.stdout), predicted.stdout.splitlines(), strict=True):
        ours = json.loads(line)
        assert plain["label"] == ours["label"]
        assert plain["probabilities"].keys() == ours["probabilities"].keys()
        np.testing.assert_allclose(
            list(plain["probabilities"].values()), list(ours["probabilities"].values()), atol=1e-5
        )

    again = in_process(monkeypatch, capsys, "export", bundle, "--out", out)
    assert again.code == 2
    assert "already holds a result" in again.stderr
    replaced = in_process(monkeypatch, capsys, "export", bundle, "--out", out, "--overwrite", "--json")
    assert (replaced.code, replaced.stderr) == (0, "")
    assert json.loads(replaced.stdout) == json.loads((out / "parity.json").read_text())


def test_bad_input(bundle, encoder, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.doc").write_text("mine")
    new = tmp_path / "new"
    for arguments, expected in (
        ((encoder, "--out", new), ["is not a bundle", "feathertune train"]),
        ((tmp_path / "nowhere", "--out", new), ["is not a folder"]),
        (
            (bundle, "--to", "mergd", "--out", new),
            ["Unknown export form 'mergd'. Did you mean 'merged'? Known: merged, onnx, onnx-int8"],
        ),
        ((bundle, "--to", "tflite", "--out", new), ["Unknown export form 'tflite'", "Known: merged"]),
        ((bundle, "--out", tmp_path / "file"), ["is a file"]),
        ((bundle, "--out", tmp_path / "file" / "below"), ["cannot be written"]),
        ((bundle, "--out", tmp_path / "folder"), ["was not written by feathertune"]),
        ((bundle, "--out", tmp_path / "folder", "--overwrite"), ["was not written by feathertune"]),
        ((bundle, "--out", bundle / "merged"), ["overlap"]),
        ((bundle, "--out", new, "--base", "sample:minilmm"), ["Did you mean 'minilm'?"]),
        ((bundle, "--out", new, "--to", "onnx-int8"), ["rounds numbers", "Pass at least 500 texts with --data"]),
        ((bundle, "--out", new, "--data", tmp_path / "nowhere.csv"), ["nowhere.csv"]),
        ((bundle, "--out", new, "--rows", "600"), ["Pass a data source with --data"]),
        ((bundle, "--out", new, "--max-flips", "5"), ["--max-flips is 5. Expected a share from 0 to 1"]),
    ):
        result = in_process(monkeypatch, capsys, "export", *arguments)
        assert (result.code, result.stdout) == (2, ""), arguments
        for word in expected:
            assert word in result.stderr, result.stderr
        assert "Traceback" not in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "folder" / "thesis.doc").read_text() == "mine"


def test_what_cannot_be_merged_is_told_with_what_to_do_instead(encoder, data, tmp_path, monkeypatch, capsys):
    bundle = trained("prompt", encoder, data, tmp_path / "prompt")
    result = in_process(monkeypatch, capsys, "export", bundle, "--to", "merged", "--out", tmp_path / "merged")
    assert (result.code, result.stdout) == (2, "")
    assert "the method 'prompt' trains virtual tokens or prefixes" in result.stderr
    assert "Ship the bundle unmerged: `feathertune predict` and plain PEFT can load it" in result.stderr
    assert not (tmp_path / "merged").exists()


def test_real_rows_with_labels_are_told_before_and_after(bundle, data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "merged"
    result = in_process(monkeypatch, capsys, "export", bundle, "--out", out, "--data", data, "--rows", "100")
    assert (result.code, result.stderr) == (0, "")
    parity = json.loads((out / "parity.json").read_text())
    assert (parity["n_real"], parity["data"]) == (100, data.name)
    assert parity["accuracy_before"] == parity["accuracy_after"] > 0.6
    assert f"Accuracy on 100 rows of {data.name}: {parity['accuracy_before']:.2%} before" in result.stdout


def test_what_a_form_that_rounds_has_lost_is_told(bundle, tmp_path, monkeypatch, capsys):
    parity = Parity(
        to="onnx-int8",
        method="lora",
        n_texts=1000,
        n_real=1000,
        data="rows.csv",
        longest=256,
        largest_logit=3.1,
        max_abs_difference=0.12,
        label_flips=7,
        accuracy_before=0.884,
        accuracy_after=0.881,
        tolerance=None,
        max_flips=0.02,
        max_accuracy_loss=0.005,
    )
    monkeypatch.setattr("feathertune.cli.export.export_model", lambda *_, **__: parity)
    result = in_process(monkeypatch, capsys, "export", bundle, "--to", "onnx-int8", "--out", tmp_path / "new")
    assert (result.code, result.stderr) == (0, "")
    assert "by at most 1.2e-01; 7 labels differ (allowed: 2.00% of the texts)." in result.stdout
    assert "88.40% before, 88.10% after (allowed: 0.5 points less)." in result.stdout
