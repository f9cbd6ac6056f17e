"""No answer is NaN: `predict`, an estimator and the server refuse it in a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from e2e.cli import in_process
from feathertune.bundle import save_bundle
from feathertune.config import EngineConfig
from feathertune.errors import FeathertuneError
from feathertune.predictor import load
from feathertune.serve.batcher import NotFinite
from feathertune.serve.models import Models
from tiny import save_tiny_encoder
from unit.bundle.test_bundle import SETTINGS, trained
from whole import CPU

ENGINE = EngineConfig(dtype="fp32", device="cpu")
# A word of the vocabulary that no probe text holds.
RARE = "zzz stale"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """The probe texts get good answers; one word has an embedding that overflows."""
    folder = tmp_path_factory.mktemp("overflowing")
    save_tiny_encoder(folder / "base", "bert")
    encoder, model = trained(str(folder / "base"))
    path = folder / "base" / "model.safetensors"
    tensors = load_file(path)
    tensors["embeddings.word_embeddings.weight"][encoder.tokenizer.convert_tokens_to_ids("stale")] = 3e38
    save_file(tensors, path, metadata={"format": "pt"})
    encoder, model = trained(str(folder / "base"))
    save_bundle(folder / "bundle", model, encoder, SETTINGS)
    return folder / "bundle"


def test_predict_names_the_first_text_without_an_answer(bundle, monkeypatch, capsys, tmp_path):
    predictor = load(bundle, engine=ENGINE)
    assert np.isfinite(predictor.probabilities(["a good film", "bad"])).all()
    with pytest.raises(FeathertuneError, match=r"NaN or infinite for the text 'zzz stale'"):
        predictor.probabilities(["a good film", RARE, f"{RARE} too"])
    out = tmp_path / "answers.csv"
    (tmp_path / "texts.csv").write_text(f"text\na good film\n{RARE}\n")
    done = in_process(monkeypatch, capsys, "predict", bundle, "--input", tmp_path / "texts.csv", "--output", out)
    assert (done.code, out.exists()) == (2, False)
    assert "zzz stale" in done.stderr


def test_the_server_refuses_it_too(bundle):
    models = Models(ENGINE, CPU, n_workers=1)
    served = models.add("one", models.read(bundle))
    good, bad = models.run([(served, row) for row in models.encode(served, ["a good film", RARE])])
    assert all(np.isfinite(list(good[1].values())))
    assert isinstance(bad, NotFinite)


def test_such_a_model_is_not_saved(tmp_path):
    save_tiny_encoder(tmp_path / "base", "bert")
    encoder, model = trained(str(tmp_path / "base"))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.full_like(parameter, 3e38)
    with pytest.raises(FeathertuneError):
        save_bundle(tmp_path / "bundle", model, encoder, SETTINGS)
    assert not (tmp_path / "bundle").exists()
