"""What every method must do on every family of encoders; parametrised from the registries alone."""

import numpy as np
import pytest
import torch

from feathertune.config import TrainConfig
from feathertune.data.encode import encode
from feathertune.encoders import load_encoder
from feathertune.engine.gradient import Labelled
from feathertune.engine.loop import EpochInfo, StepInfo, Training
from feathertune.engine.optim import trained_parameters
from feathertune.engine.predict import predict_logits
from feathertune.methods import METHODS
from feathertune.runtime import Runtime, seed_everything
from tiny import FAMILIES, save_tiny_encoder

CPU = Runtime(torch.device("cpu"), "fp32", "eager", "test", {})
TEXTS = ["a great film", "the plot is bad", "it was great fun", "bad and not fun", "great", "very bad"] * 4
LABELS = np.array([1, 0, 1, 0, 1, 0] * 4, dtype=np.int64)
# Tiny random encoders need a larger step than real ones to move at all in a few steps: this times a method's own rate.
RATE_FACTOR = 40


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder"), request.param)


def prepared(folder, method, seed=0, **options):
    seed_everything(seed)
    encoder = load_encoder(str(folder), labels=("no", "yes"), seed=seed, attention="eager")
    return encoder, method.prepare(encoder, method.options(**options), seed)


def training(folder, method, seed=0, rate=None):
    encoder, model = prepared(folder, method, seed)
    data = Labelled(encode(encoder.tokenizer, TEXTS, max_length=16), LABELS)
    settings = TrainConfig(epochs=5, batch_size=6, warmup_ratio=0.0, patience=5)
    rate = RATE_FACTOR * method.options().learning_rate if rate is None else rate
    return encoder, Training(model, data, data, settings=settings, learning_rate=rate, seed=seed, runtime=CPU)


@pytest.mark.parametrize("method", METHODS, ids=METHODS.names())
def test_trains_exactly_what_it_says(folder, method):
    encoder, run = training(folder, method)
    before = {name: value.detach().clone() for name, value in run.model.named_parameters()}
    logits_before = predict_logits(run.model, run._train.texts, token_budget=512, runtime=CPU)
    events = list(run.events())
    epochs = [event for event in events if isinstance(event, EpochInfo)]
    assert epochs[-1].train_loss < epochs[0].train_loss
    still = {n for n, p in run.model.named_parameters() if torch.equal(p, before[n])}
    planned = {n for n, p in run.model.named_parameters() if p.requires_grad}
    assert still >= {n for n in before if n not in planned}
    assert not still & planned & with_gradient(run.model, run._train)
    heads = [n for n in planned if any(f"{head}." in f"{n}." for head in encoder.head_modules)]
    assert heads
    assert not still & set(heads)
    logits = predict_logits(run.model, run._train.texts, token_budget=512, runtime=CPU)
    assert np.abs(logits - logits_before).max() > 1e-2


def with_gradient(model, data):
    """Names of the parameters that the loss depends on; full fine-tuning also trains embeddings that no text uses."""
    model.train()
    logits = model(**data.texts.collate(np.arange(len(data.labels)), CPU.device)).logits
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(data.labels)).backward()
    return {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}


@pytest.mark.parametrize("method", METHODS, ids=METHODS.names())
def test_is_deterministic_by_seed(folder, method):
    def losses(seed):
        return [e.loss for e in training(folder, method, seed)[1].events() if isinstance(e, StepInfo)]

    first = losses(0)
    assert losses(0) == first
    assert losses(1) != first


@pytest.mark.parametrize("method", [m for m in METHODS if m.kind == "peft"], ids=lambda m: m.name)
def test_starts_as_the_foundation_and_adapts_the_blocks(folder, method):
    encoder, model = prepared(folder, method)
    plain = load_encoder(str(folder), labels=("no", "yes"), seed=0, attention="eager")
    data = encode(encoder.tokenizer, TEXTS, max_length=16)
    np.testing.assert_allclose(
        predict_logits(model, data, token_budget=512, runtime=CPU),
        predict_logits(plain.model, data, token_budget=512, runtime=CPU),
        atol=1e-6,
    )
    adapted = {n for n, p in model.named_parameters() if p.requires_grad and "modules_to_save" not in n}
    for linear in plain.linear_names():
        assert any(linear in name for name in adapted), linear
    total = sum(p.numel() for p in model.parameters())
    assert 0 < sum(p.numel() for p in trained_parameters(model)) < total


def test_lora_parameter_count_and_targets(folder):
    encoder, model = prepared(folder, METHODS["lora"], r=3, target_modules="query-value")
    names = encoder.query_value_names()
    shapes = [
        load_encoder(str(folder), labels=("no", "yes"), seed=0).model.get_submodule(n).weight.shape for n in names
    ]
    count = sum(p.numel() for n, p in model.named_parameters() if "lora_" in n)
    assert count == sum(3 * (m + n) for m, n in shapes)
    assert 0 < len(names) < len(encoder.linear_names())
