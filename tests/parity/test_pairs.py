"""Pairs of texts in whole models: the engine's logits and gradients are those of transformers on the tokenizer's batch.

The second text has types of its own where the family tells types apart, and they have to arrive: through flat tokens,
the fast parts, and hidden states that are kept.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from feathertune.config import EngineConfig
from feathertune.data.reading.texts import Pair
from feathertune.data.tokens.encode import encode
from feathertune.encoders import load_encoder
from feathertune.encoders.classifier_head import head_logits
from feathertune.engine.fast_path import fast_parts
from feathertune.engine.prefix_cache.activations import CachedTexts
from feathertune.engine.prefix_cache.store import ActivationCache
from feathertune.engine.training.head import extract_features
from tiny import FAMILIES
from whole import CPU, answers_to, assert_equal_answers, folder, shared

PAIRS = [
    Pair("a great film", "the plot was fun and the story was fresh"),
    Pair("bad", "dull"),
    Pair("the movie was very very good and the scene was bright", "no"),
]
ALL = np.arange(len(PAIRS))
SEGMENTS = {"bert", "electra", "albert"}  # DeBERTa's own configuration has no types


def plain_batch(tokenizer):
    """As transformers alone makes it."""
    return dict(tokenizer(*map(list, zip(*PAIRS, strict=True)), padding=True, return_tensors="pt"))


@pytest.mark.parametrize("case", ["lora", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_gradients(family, case):
    found = shared(family, case)
    tokenizer = found.encoder.tokenizer
    expected = answers_to(found.model, plain_batch(tokenizer))
    texts = encode(tokenizer, PAIRS, max_length=64)
    assert (texts.types is not None) == (family in SEGMENTS)
    with fast_parts(found.encoder, EngineConfig(), CPU):
        assert_equal_answers(answers_to(found.model, texts.collate(ALL, CPU.device)), expected, of_largest=1e-5)
    if family in SEGMENTS:
        blind = {name: t for name, t in texts.collate(ALL, CPU.device).items() if name != "token_type_ids"}
        assert not torch.allclose(answers_to(found.model, blind)["logits"], expected["logits"], atol=1e-3)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "albert"])
def test_hidden_states_that_are_kept(family):
    encoder = load_encoder(str(folder(family)), labels=("no", "yes", "so"), seed=0, attention="eager")
    for name, parameter in encoder.model.named_parameters():
        last = f"{encoder.spec.blocks}.{len(encoder.blocks) - 1}."
        parameter.requires_grad_(name.startswith((last, *(f"{head}." for head in encoder.head_modules))))
    expected = answers_to(encoder.model, plain_batch(encoder.tokenizer))
    texts = encode(encoder.tokenizer, PAIRS, max_length=64)
    config = EngineConfig()
    cache = ActivationCache(config, CPU, token_budget=64, base_fingerprint=encoder.fingerprint)
    with fast_parts(encoder, config, CPU), cache.inputs(encoder, encoder.model, {"train": texts}) as inputs:
        kept = inputs.texts["train"]
        assert isinstance(kept, CachedTexts), inputs.notes
        assert_equal_answers(answers_to(encoder.model, kept.collate(ALL, CPU.device)), expected, of_largest=1e-4)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_frozen_features(family):
    encoder = load_encoder(str(folder(family)), labels=("no", "yes", "so"), seed=0, attention="eager")
    batch = encode(encoder.tokenizer, PAIRS, max_length=64).collate(ALL, CPU.device)
    with torch.no_grad():
        expected = encoder.model(**plain_batch(encoder.tokenizer)).logits
        found = head_logits(encoder, extract_features(encoder, batch).read)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_tokenizer_gives_types_only_to_who_takes_them():
    for family, takes in (("bert", True), ("distilbert", False), ("deberta-v2", False)):
        encoder = load_encoder(str(folder(family)), labels=("no", "yes"), seed=0)
        assert ("token_type_ids" in encoder.tokenizer.model_input_names) == takes, family
        encoder.model(**plain_batch(encoder.tokenizer))
