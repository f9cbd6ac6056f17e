"""Bundles that were trained on more than the beginning of long texts read texts so wherever they are asked."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from feathertune.bundle import load_bundle, save_bundle
from feathertune.bundle.files import read_info, write_info
from feathertune.bundle.plain_use import plain_reading
from feathertune.config import EngineConfig
from feathertune.data.tokens.encode import encode
from feathertune.export import export_model
from feathertune.predictor import load
from feathertune.records import HEAD, Reading
from feathertune.runtime import FP32
from feathertune.serve.models import Models
from tiny import save_tiny_encoder, tiny_tokenizer
from unit.bundle.test_bundle import LABELS, SETTINGS, trained
from whole import BF16

READINGS = {"head-tail": Reading(long="head-tail"), "windows": Reading(long="windows", stride=3, max_windows=4)}
LENGTH = 12
ENGINE = EngineConfig(dtype="fp32", device="cpu")
TEXTS = (
    "a great film",
    "",
    "the story was good but not great " * 3 + "the plot is bad",
    "very " * 90 + "awful",
    "no story no plot no actor no scene no fun",
)


@pytest.fixture(scope="module", params=READINGS)
def home(request, tmp_path_factory) -> Path:
    """A folder with `base` and `bundle`."""
    folder = tmp_path_factory.mktemp(request.param)
    save_tiny_encoder(folder / "base", "bert")
    encoder, model = trained(str(folder / "base"))
    settings = replace(SETTINGS, max_length=LENGTH, reading=READINGS[request.param])
    save_bundle(folder / "bundle", model, encoder, settings)
    return folder


@pytest.fixture(scope="module")
def expected(home):
    """Probabilities by transformers alone, each text by itself, cut by the Python of the card."""
    bundle = load_bundle(home / "bundle")
    place: dict = {}
    exec(plain_reading(bundle.info.reading, LENGTH), place)
    found = []
    for text in TEXTS:
        whole = bundle.tokenizer(text, return_special_tokens_mask=True)
        ids = torch.tensor(place["sequences"](whole["input_ids"], whole["special_tokens_mask"]))
        with torch.no_grad():
            found.append(bundle.model(input_ids=ids).logits.mean(dim=0).softmax(-1).numpy())
    return np.stack(found)


def test_the_plain_python_cuts_as_we_do():
    rng = np.random.default_rng(0)
    tokenizer = tiny_tokenizer("roberta")
    texts = [" ".join(rng.choice(["film", "good", "bad"], n)) for n in range(70)]
    for length in (5, 12, 20):
        readings = [Reading(long="head-tail")]
        readings += [Reading(long="windows", stride=s, max_windows=n) for s in (0, 2) for n in (1, 2, 50)]
        for reading in readings:
            place: dict = {}
            exec(plain_reading(reading, length), place)
            plain = [
                ids
                for text in texts
                for whole in [tokenizer(text, return_special_tokens_mask=True)]
                for ids in place["sequences"](whole["input_ids"], whole["special_tokens_mask"])
            ]
            ours = encode(tokenizer, texts, max_length=length, reading=reading)
            assert [ids.tolist() for ids in np.split(ours.ids, ours.offsets[1:-1])] == plain, (length, reading)


def test_it_is_predicted_as_it_was_trained(home, expected):
    predictor = load(home / "bundle", engine=ENGINE)
    np.testing.assert_allclose(predictor.probabilities(TEXTS), expected, rtol=0, atol=1e-5)
    info = read_info(home / "bundle")
    write_info(home / "bundle", info.model_copy(update={"reading": HEAD}))
    try:
        cut = load(home / "bundle", engine=ENGINE).probabilities(TEXTS)
    finally:
        write_info(home / "bundle", info)
    differ = np.abs(cut - expected).max(axis=1)
    assert (differ > 1e-3).tolist() == [False, False, True, True, False], "of the long ones more was read"


def test_a_bundle_of_before_reads_the_head(home):
    content = json.loads((home / "bundle" / "feathertune.json").read_text())
    assert content.pop("reading")["long"] in READINGS
    assert type(read_info(home / "bundle")).model_validate(content).reading == HEAD


@pytest.mark.parametrize(("runtime", "atol"), [(FP32, 1e-5), (BF16, 0.03)], ids=["fp32", "bf16"])
def test_served_in_one_pass_with_others(home, expected, runtime, atol):
    """In bf16 with the rows that fill a pass up to one of few shapes."""
    models = Models(ENGINE, runtime)
    one, two = (models.add(name, models.read(home / "bundle")) for name in ("one", "two"))
    assert one.describe().reading.long in READINGS
    rows = [(model, row) for model in (one, two) for row in models.encode(model, TEXTS)]
    order = np.random.default_rng(1).permutation(len(rows))
    answers = models.run([rows[i] for i in order])
    for i, (_, probabilities) in zip(order, answers, strict=True):
        assert list(probabilities.values()) == pytest.approx(expected[i % len(TEXTS)].tolist(), rel=0, abs=atol)
    widths = [row.width for _, row in rows[: len(TEXTS)]]
    n_windows = [len(row.sequences) for _, row in rows[: len(TEXTS)]]
    assert widths[3] == LENGTH * n_windows[3], "what it takes of a pass"
    assert n_windows == ([1, 1, 4, 4, 1] if "windows" in home.name else [1] * 5)


# A process each; of the bundle itself and of the graph, what lies around is the same.
@pytest.mark.parametrize("to", ["bundle", *(pytest.param(to, marks=pytest.mark.slow) for to in ("merged", "onnx"))])
def test_the_script_on_the_card_gives_the_same_labels(home, expected, to, tmp_path, monkeypatch):
    monkeypatch.setattr("feathertune.export.parity.N_PSEUDO_TEXTS", 12)
    folder = home / "bundle"
    if to != "bundle":
        if to == "onnx":
            pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
        folder = tmp_path / to
        parity = export_model(home / "bundle", folder, to=to)
        assert parity.longest > LENGTH or "head-tail" in home.name
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"longer than {LENGTH} tokens" in card
    script = card.split("```python\n")[1].split("```")[0]
    if to == "onnx":
        argv = ["script", *TEXTS]
        found = run(script, folder, argv)
        assert [list(json.loads(line)["probabilities"].values()) for line in found] == [
            pytest.approx(row.tolist(), rel=0, abs=1e-4) for row in expected
        ]
        return
    base = home / "base"
    script = script.replace('"base"', repr(str(base)))
    prelude, rest = script.split('whole = tokenizer("A text."')
    script = (
        prelude
        + f"for text in {TEXTS!r}:\n"
        + "".join(f"    {line}\n" for line in ("whole = tokenizer(text" + rest).splitlines())
    )
    assert run(script, folder, ["script"]) == [LABELS[int(row.argmax())] for row in expected]


def run(script, folder, argv):
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\nsys.argv = {argv!r}\n{script}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
