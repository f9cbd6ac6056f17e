"""Windows of many texts in common passes give what each text alone gives: logits, every gradient, predictions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from feathertune.config import EngineConfig
from feathertune.data.tokens.encode import encode
from feathertune.encoders import load_encoder
from feathertune.engine.fast_path import fast_parts
from feathertune.engine.predict import predict_logits, run_passes
from feathertune.engine.prefix_cache.activations import CachedTexts
from feathertune.engine.prefix_cache.store import ActivationCache
from feathertune.engine.training.distributed import ALONE
from feathertune.engine.training.gradient import Labelled, add_gradient
from feathertune.engine.training.head import extract_features, fit_head
from feathertune.engine.training.state import trained_by_name
from feathertune.methods import METHODS, Job
from feathertune.records import Reading
from feathertune.runtime import Runtime, seed_everything
from tiny import save_tiny_encoder

CPU = Runtime(torch.device("cpu"), "fp32", "eager", "test", {})
WINDOWS = Reading(long="windows", stride=2, max_windows=4)
LENGTH = 8
TEXTS = (
    "bad",
    "the film was good and the plot was not dull",
    "a long and slow film that i did not like at all but the story is fine and the actor was great fun",
    "yes",
    "no story and no plot and no scene",
    "very " * 60 + "good",
)
LABELS = np.array([0, 1, 0, 1, 0, 1])
# Linear head; dense, tanh and a linear layer; ReLU between; the mean over tokens.
FAMILIES = ("bert", "roberta", "distilbert", "modernbert")


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder"), request.param, num_hidden_layers=3, n_layers=3)


def prepared(folder, **options):
    seed_everything(0)
    encoder = load_encoder(str(folder), labels=("no", "yes"), seed=0, attention="eager")
    model = METHODS["lora"].prepare(encoder, METHODS["lora"].options(r=2, **options), Job(0))
    with torch.no_grad():  # B is zero at the start, which would hide A's gradient
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    return encoder, model.eval()


def encoded(encoder):
    texts = encode(encoder.tokenizer, TEXTS, max_length=LENGTH, reading=WINDOWS)
    assert np.diff(texts.firsts).tolist() == [1, 2, 4, 1, 2, 4]
    return texts


def reference(encoder, model):
    """Slow: each text alone, its windows one batch by transformers alone; logits, loss and gradients by autograd."""
    texts = encoded(encoder)
    logits = []
    for row in range(len(TEXTS)):
        first, last = texts.firsts[row], texts.firsts[row + 1]
        windows = [texts.ids[texts.offsets[i] : texts.offsets[i + 1]] for i in range(first, last)]
        assert len({len(ids) for ids in windows}) == 1
        ids = torch.from_numpy(np.stack(windows)).long()
        logits.append(model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.mean(dim=0))
    logits = torch.stack(logits)
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(LABELS))
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    grads = torch.autograd.grad(loss, [p for _, p in trained])
    return logits.detach(), loss.item(), {n: g for (n, _), g in zip(trained, grads, strict=True)}


@pytest.mark.parametrize("top_layers", [None, 1])
@pytest.mark.parametrize("passes", [[range(6)], [[1, 4], [0, 3, 2], [5]]], ids=["one", "three"])
def test_gradients_and_logits_are_those_of_each_text_alone(folder, top_layers, passes):
    encoder, model = prepared(folder, top_layers=top_layers)
    logits, loss, expected = reference(encoder, model)
    assert all(gradient.abs().sum() > 0 for gradient in expected.values())
    config = EngineConfig()
    cache = ActivationCache(config, CPU, token_budget=64, base_fingerprint=encoder.fingerprint)
    with fast_parts(encoder, config, CPU), cache.inputs(encoder, model, {"train": encoded(encoder)}) as inputs:
        texts = inputs.texts["train"]
        assert isinstance(texts, CachedTexts) == (top_layers == 1), inputs.notes
        model.zero_grad(set_to_none=True)
        rows = [np.array(one) for one in passes]
        trained = list(trained_by_name(model).values())
        found, halvings = add_gradient(
            model, trained, Labelled(texts, LABELS), rows, halvings=0, runtime=CPU, group=ALONE
        )
        predicted = predict_logits(model, texts, token_budget=20, runtime=CPU)
    assert (found, halvings) == (pytest.approx(loss, rel=1e-5), 0)
    torch.testing.assert_close(torch.from_numpy(predicted), logits, rtol=1e-4, atol=1e-5)
    grads = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert grads.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(grads[name], gradient, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_windows_say_something_of_their_own(folder):
    """Otherwise all of the above would be true of the head alone."""
    encoder, model = prepared(folder)
    head = encode(encoder.tokenizer, TEXTS, max_length=LENGTH)
    differ = np.abs(
        predict_logits(model, head, token_budget=64, runtime=CPU)
        - predict_logits(model, encoded(encoder), token_budget=64, runtime=CPU)
    ).max(axis=1)
    assert (differ > 1e-3).tolist() == [False, True, True, False, True, True]


def test_the_head_is_fitted_to_pooled_logits_whatever_its_form(folder):
    def untrained():
        return load_encoder(str(folder), labels=("no", "yes"), seed=0, attention="eager")

    encoder = untrained()
    texts = encoded(encoder)

    def features(batch):
        return (extract_features(encoder, batch).read,)

    (read,) = run_passes(features, texts, token_budget=64, runtime=CPU, pooled=False)
    assert len(read) == texts.n_sequences

    def fitted(texts):
        seed_everything(1)
        one = untrained()
        for module in one.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        fit_head(one, read, LABELS, seed=0, texts=texts)
        return one

    logits = predict_logits(fitted(texts).model, texts, token_budget=64, runtime=CPU)
    slow = untrained()
    slow.model.eval().requires_grad_(False)
    heads = tuple(f"{name}." for name in slow.head_modules)
    head = [p.requires_grad_(True) for n, p in slow.model.named_parameters() if n.startswith(heads)]
    optimizer = torch.optim.AdamW(head, lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        order = torch.randperm(len(TEXTS), generator=generator)
        batch = texts.collate(order.numpy(), CPU.device)
        optimizer.zero_grad()
        said = texts.pool(order.numpy(), slow.model(**batch).logits)
        torch.nn.functional.cross_entropy(said, torch.from_numpy(LABELS)[order]).backward()
        optimizer.step()
    expected = predict_logits(slow.model, texts, token_budget=64, runtime=CPU)
    before = predict_logits(untrained().model, texts, token_budget=64, runtime=CPU)
    assert np.abs(expected - before).max() > 1e-2, "it has learned"
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)
