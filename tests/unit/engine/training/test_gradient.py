"""A step's gradient however it is cut into passes, also where the memory does not hold a pass."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from feathertune.config import TrainConfig
from feathertune.data.tokens.encode import EncodedTexts, Padding
from feathertune.engine.training import gradient
from feathertune.engine.training.distributed import ALONE
from feathertune.engine.training.gradient import Labelled, add_gradient
from feathertune.engine.training.loop import Recipe, Training
from feathertune.errors import RunFailedError
from feathertune.runtime import Runtime

CPU = Runtime(torch.device("cpu"), "fp32", "eager", "test", {})
FAULTS = {
    "gpu": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    # As torch's allocator for the processor says it, on Linux and on Windows; and Python's own.
    "linux": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 4000000000000 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "windows": RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: ..."),
    "python": MemoryError(),
}


class Bag(nn.Module):
    """Mean of token vectors, then a linear head; with room for a few rows only."""

    def __init__(self, *, room=None, fault=None):
        super().__init__()
        torch.manual_seed(0)
        self.tokens = nn.Embedding(30, 8)
        self.head = nn.Linear(8, 2)
        self.room, self.fault = room, fault
        self.sizes = []

    def forward(self, input_ids, attention_mask=None):
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        mask = mask.unsqueeze(-1).to(self.head.weight.dtype)
        mean = (self.tokens(input_ids) * mask).sum(1) / mask.sum(1)
        if self.room is not None and len(input_ids) > self.room:
            raise self.fault
        self.sizes.append(len(input_ids))
        return SimpleNamespace(logits=self.head(torch.tanh(mean)))


def labelled(n=12):
    rng = np.random.default_rng(1)
    rows = [rng.integers(1, 30, length) for length in rng.integers(2, 9, n)]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    texts = EncodedTexts(np.concatenate(rows).astype(np.int32), offsets, n_truncated=0, padding=Padding())
    return Labelled(texts, rng.integers(0, 2, n).astype(np.int64))


PASSES = [np.array([3, 1, 0, 7, 8]), np.array([2, 9, 4]), np.array([11])]


def run(model, passes=PASSES, *, halvings=0):
    """Loss and halvings, and the gradients by name; in fp64, but for the loss itself, which is computed in fp32."""
    model.double()
    found = add_gradient(
        model, list(model.parameters()), labelled(), passes, halvings=halvings, runtime=CPU, group=ALONE
    )
    return *found, {name: p.grad for name, p in model.named_parameters()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7, msg=lambda text, name=name: name + text)


def test_is_that_of_the_mean_loss():
    model = Bag().double()
    rows = np.concatenate(PASSES)
    data = labelled()
    batch = data.texts.collate(rows, CPU.device)
    expected = nn.functional.cross_entropy(model(**batch).logits, torch.from_numpy(data.labels[rows]))
    grads = torch.autograd.grad(expected, list(model.parameters()))
    loss, halvings, found = run(Bag())
    assert halvings == 0
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    assert_same(found, dict(zip(found, grads, strict=True)))


@pytest.mark.parametrize("halvings", [1, 2, 9])
def test_passes_cut_into_halves_give_the_same(halvings):
    whole, cut = Bag(), Bag()
    loss, _, expected = run(whole)
    other, kept, found = run(cut, halvings=halvings)
    assert kept == halvings
    assert other == pytest.approx(loss, rel=1e-6)
    assert_same(found, expected)
    assert whole.sizes == [5, 3, 1]
    assert cut.sizes == {1: [3, 2, 2, 1, 1], 2: [2, 1, 1, 1, 1, 1, 1, 1], 9: [1] * 9}[halvings]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_pass_that_does_not_fit_is_cut_until_it_does(fault):
    loss, _, expected = run(Bag())
    model = Bag(room=2, fault=FAULTS[fault])
    other, halvings, found = run(model)
    assert halvings == 2
    assert other == pytest.approx(loss, rel=1e-6)
    assert_same(found, expected)


def test_what_was_added_before_the_fault_does_not_count_twice():
    """The first pass fits and has left its gradient when the second one does not."""
    passes = [PASSES[2], PASSES[0]]
    loss, _, expected = run(Bag(), passes)
    model = Bag(room=3, fault=FAULTS["gpu"])
    other, halvings, found = run(model, passes)
    assert model.sizes == [1, 1, 3, 2]
    assert halvings == 1
    assert other == pytest.approx(loss, rel=1e-6)
    assert_same(found, expected)


def test_memory_is_given_back_after_the_faults_own_tensors_are_gone(monkeypatch):
    """An exception holds the frames that it came through, and they hold what the pass had computed."""
    kept = []

    class Large(Bag):
        def forward(self, input_ids, attention_mask=None):
            activations = torch.zeros(3)
            kept.append(weakref.ref(activations))
            if len(input_ids) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().forward(input_ids, attention_mask)

    alive = []

    def give_back():
        gc.collect()
        alive.extend(ref() is not None for ref in kept)

    monkeypatch.setattr(gradient, "give_memory_back", give_back)
    run(Large())
    assert alive == [False]


def test_a_single_text_that_does_not_fit_is_told():
    model = Bag(room=0, fault=FAULTS["linux"])
    with pytest.raises(
        RunFailedError, match=r"single text does not fit .* --max-length or pass --set engine.recompute=on"
    ):
        run(model)


def test_other_errors_pass_through():
    model = Bag(room=2, fault=RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        run(model)
    assert model.sizes == []


def training(model, **settings):
    config = TrainConfig(epochs=2, batch_size=6, token_budget=10_000, **settings)
    data = labelled()
    return Training(model.double(), data, data, Recipe(config, learning_rate=0.05, seed=0), runtime=CPU)


def test_a_training_goes_on_with_smaller_passes_and_says_so(monkeypatch):
    plain = training(Bag())
    expected = [vars(event) for event in plain.events()]

    model = Bag()
    run = training(model)
    events = run.events()
    found = [vars(next(events))]
    assert run.position.halvings == 0
    # From the second step on there is less memory. Without gradients more fits: validation is not cut.
    forward = model.forward

    def short(input_ids, attention_mask=None):
        if torch.is_grad_enabled() and len(input_ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(input_ids, attention_mask)

    monkeypatch.setattr(model, "forward", short)
    found += [vars(event) for event in events]
    assert run.position.halvings == 2
    assert run.notes == ["Step 2 ran out of memory; from there on, each pass is split into 4."]
    for one, other in zip(found, expected, strict=True):
        for name in ("loss", "train_loss"):
            if name in one:
                assert one[name] == pytest.approx(other[name], rel=1e-6)
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(run.model.state_dict()[name], value, rtol=1e-4, atol=1e-6, msg=name)

    state = run.state()
    assert state.values.position.halvings == 2
    resumed = training(Bag())
    resumed.load_state(state)
    assert resumed.position.halvings == 2
