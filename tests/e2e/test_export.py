"""`feathertune export`: what it writes gives the answers of `feathertune predict`, without feathertune."""

import json
import subprocess
import sys

import numpy as np
import pytest

from e2e.cli import ENVIRONMENT, SMALL, feathertune, in_process

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
    assert "and 0 labels" in result.stdout
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
            ["Unknown export form 'mergd'. Did you mean 'merged'? Known: merged"],
        ),
        ((bundle, "--to", "tflite", "--out", new), ["Unknown export form 'tflite'", "Known: merged"]),
        ((bundle, "--out", tmp_path / "file"), ["is a file"]),
        ((bundle, "--out", tmp_path / "file" / "below"), ["cannot be written"]),
        ((bundle, "--out", tmp_path / "folder"), ["was not written by feathertune"]),
        ((bundle, "--out", tmp_path / "folder", "--overwrite"), ["was not written by feathertune"]),
        ((bundle, "--out", bundle / "merged"), ["lie in each other"]),
        ((bundle, "--out", new, "--base", "sample:minilmm"), ["Did you mean 'minilm'?"]),
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
    assert "cannot be merged: the method 'prompt' puts trained tokens before each text" in result.stderr
    assert "Ship the bundle as it is: `feathertune predict` loads it" in result.stderr
    assert not (tmp_path / "merged").exists()
