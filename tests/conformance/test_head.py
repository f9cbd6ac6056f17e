"""The head alone gives what the whole model gives, in every family."""

from __future__ import annotations

import pytest
import torch

from feathertune.encoders import LoadedEncoder, load_encoder
from feathertune.engine.training.head import extract_features, head_logits
from tiny import FAMILIES, TEXTS, UNKNOWN_FAMILIES, drop_tensors, save_tiny_encoder

CASES = [
    *FAMILIES,
    *UNKNOWN_FAMILIES,
    "bert without pooler",
    "albert without pooler",
    "modernbert first token",
]


def load(case: str, folder) -> LoadedEncoder:
    family, _, variant = case.partition(" ")
    settings = {"classifier_pooling": "cls"} if variant == "first token" else {}
    save_tiny_encoder(folder, family, **settings)
    if variant == "without pooler":
        drop_tensors(folder, "pooler")
    return load_encoder(str(folder), labels=("a", "b", "c"), seed=0)


@pytest.fixture(params=CASES)
def encoder(request, tmp_path):
    return load(request.param, tmp_path)


@pytest.fixture
def batch(encoder):
    return dict(encoder.tokenizer(list(TEXTS), padding=True, return_tensors="pt"))


def state(encoder):
    """What a call must leave as it was."""
    return [
        (
            name,
            module.training,
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
            "forward" in vars(module),
        )
        for name, module in encoder.model.named_modules()
    ]


def test_head_logits_equal_the_models(encoder, batch):
    before = state(encoder)
    features = extract_features(encoder, batch)
    logits = head_logits(encoder, features.read)
    with torch.no_grad():
        expected = encoder.model(**batch).logits
    assert features.read.shape == features.mean.shape == (len(TEXTS), encoder.hidden_size)
    torch.testing.assert_close(logits, expected, atol=1e-6, rtol=0)
    assert (expected[0] - expected[1]).abs().max() > 1e-3
    assert state(encoder) == before


def test_padding_changes_no_feature(encoder, batch):
    together = extract_features(encoder, batch)
    alone = extract_features(encoder, dict(encoder.tokenizer([TEXTS[2]], return_tensors="pt")))
    # ConvBERT's convolutions read padding as if it were text; that is the model's doing.
    if encoder.spec.model_type != "convbert":
        torch.testing.assert_close(together.read[2:3], alone.read, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.mean[2:3], alone.mean, atol=1e-5, rtol=1e-5)


def test_every_head_parameter_gets_the_models_gradient(encoder, batch):
    labels = torch.tensor([0, 1, 2, 0])
    read = extract_features(encoder, batch).read
    new = [encoder.model.get_parameter(name) for name in encoder.new_parameters]
    loss = torch.nn.functional.cross_entropy
    alone = torch.autograd.grad(loss(head_logits(encoder, read), labels), new)
    whole = torch.autograd.grad(loss(encoder.model(**batch).logits, labels), new)
    for name, ours, theirs in zip(encoder.new_parameters, alone, whole, strict=True):
        assert theirs.abs().max() > 0, name
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


def test_training_mode_is_put_back_and_used(encoder, batch):
    encoder.model.train()
    encoder.blocks.eval()  # frozen blocks without dropout, beside a head with it
    before = state(encoder)
    features = extract_features(encoder, batch)
    assert torch.equal(features.read, extract_features(encoder, batch).read)
    assert state(encoder) == before


def test_nothing_is_left_behind_by_an_error(encoder, batch):
    before = state(encoder)
    with pytest.raises((IndexError, RuntimeError)):
        extract_features(encoder, batch | {"input_ids": batch["input_ids"] + 10_000})
    with pytest.raises(RuntimeError):
        head_logits(encoder, torch.zeros(2, encoder.hidden_size + 1))
    assert state(encoder) == before
    features = extract_features(encoder, batch)
    torch.testing.assert_close(head_logits(encoder, features.read), encoder.model(**batch).logits, atol=1e-6, rtol=0)
