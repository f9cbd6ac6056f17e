"""A model started at the boundary of its frozen prefix gives what the whole model gives: logits and every gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from feathertune.config import EngineConfig
from feathertune.data.tokens.encode import encode
from feathertune.encoders import load_encoder
from feathertune.engine.fast_path import fast_parts
from feathertune.engine.prefix_cache.activations import CachedTexts
from feathertune.engine.prefix_cache.split_point import Prefix, find_split_point
from feathertune.engine.prefix_cache.store import ActivationCache
from feathertune.methods import METHODS, Job
from feathertune.runtime import Runtime, seed_everything
from tiny import FAMILIES, save_tiny_encoder

CPU = Runtime(torch.device("cpu"), "fp32", "eager", "test", {})
TEXTS = ["the film was good", "bad", "a long and slow film that i did not like at all", "yes the plot was fine", "no"]
LABELS = torch.tensor([1, 0, 0, 1, 0])
SHARED = {"albert"}


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    return request.param, save_tiny_encoder(tmp_path_factory.mktemp("encoder"), request.param)


def prepared(folder, **options):
    seed_everything(0)
    encoder = load_encoder(str(folder), labels=("no", "yes"), seed=0, attention="eager")
    model = METHODS["lora"].prepare(encoder, METHODS["lora"].options(**options), Job(0))
    with torch.no_grad():  # B is zero at the start, which would hide A's gradient
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    return encoder, model.eval()


def gradients(model, batch):
    model.zero_grad(set_to_none=True)
    logits = model(**batch).logits
    torch.nn.functional.cross_entropy(logits, LABELS).backward()
    return logits.detach(), {n: p.grad for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("blocks", ["auto", "off"])
def test_starting_at_the_boundary_changes_nothing(folder, blocks):
    family, path = folder
    if family in SHARED:
        pytest.skip("its layers share their weights: there is no boundary")
    encoder, model = prepared(path, top_layers=1)
    texts = encode(encoder.tokenizer, TEXTS, max_length=16)
    batch = texts.collate(np.arange(len(TEXTS)), CPU.device)
    expected, expected_grads = gradients(model, batch)
    assert all(gradient is not None for gradient in expected_grads.values())
    config = EngineConfig(blocks=blocks)
    cache = ActivationCache(config, CPU, token_budget=64, base_fingerprint=encoder.fingerprint)
    with fast_parts(encoder, config, CPU), cache.inputs(encoder, model, {"train": texts}) as inputs:
        assert inputs.split_point == len(encoder.blocks) - 1
        assert isinstance(inputs.texts["train"], CachedTexts), inputs.notes
        started, started_grads = gradients(model, inputs.texts["train"].collate(np.arange(len(TEXTS)), CPU.device))
        whole, _ = gradients(model, batch)
    torch.testing.assert_close(started, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-5)
    for name, gradient in expected_grads.items():
        torch.testing.assert_close(
            started_grads[name], gradient, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
    again, _ = gradients(model, batch)
    assert torch.equal(again, expected), "the model's own forward is back"


def test_the_prefix_runs_without_dropout(folder):
    family, path = folder
    if family in SHARED:
        pytest.skip("its layers share their weights: there is no boundary")
    encoder, model = prepared(path, top_layers=1)
    batch = encode(encoder.tokenizer, TEXTS, max_length=16).collate(np.arange(len(TEXTS)), CPU.device)
    prefix = Prefix(encoder, len(encoder.blocks) - 1, CPU)
    calm = prefix.boundary(batch)
    model.train()
    assert torch.equal(prefix.boundary(batch), calm)
    assert all(module.training for module in encoder.backbone.modules()), "the mode is as it was"


def test_the_split_point_is_where_training_begins(folder):
    family, path = folder
    n = 1 if family in SHARED else None
    encoder, model = prepared(path)
    assert find_split_point(encoder, model)[0] == 0
    if n is None:
        encoder, model = prepared(path, top_layers=1)
        assert find_split_point(encoder, model) == (len(encoder.blocks) - 1, "")
    encoder.model.get_input_embeddings().weight.requires_grad_(True)
    split_point, why = find_split_point(encoder, model)
    assert split_point == 0
    assert why


def test_shared_layers_have_no_boundary_and_no_top(tmp_path):
    encoder, model = prepared(save_tiny_encoder(tmp_path, "albert"))
    split_point, why = find_split_point(encoder, model)
    assert (split_point, "share" in why) == (0, True)
    texts = encode(encoder.tokenizer, TEXTS, max_length=16)
    cache = ActivationCache(EngineConfig(), CPU, token_budget=64, base_fingerprint="x")
    with cache.inputs(encoder, model, {"train": texts}) as inputs:
        assert inputs.texts["train"] is texts
        assert "share" in inputs.notes[0]
