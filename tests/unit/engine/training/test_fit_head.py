"""The head alone, fitted to frozen features: what moves, what stays, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from feathertune.encoders import load_encoder
from feathertune.encoders.classifier_head import head_logits
from feathertune.engine.training.head import fit_head
from feathertune.methods import METHODS, Job
from feathertune.runtime import seed_everything
from tiny import FAMILIES, save_tiny_encoder

N = 40


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder"), request.param)


def fitted(folder, method="lora", seed=0):
    seed_everything(seed)
    encoder = load_encoder(str(folder), labels=("no", "yes"), seed=0, attention="eager")
    METHODS[method].prepare(encoder, METHODS[method].options(), Job(0))
    before = {name: value.detach().clone() for name, value in encoder.model.named_parameters()}
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, N)
    read = rng.normal(size=(N, encoder.hidden_size)).astype(np.float32)
    read[:, :4] += 3.0 * (2 * labels[:, None] - 1)
    fit_head(encoder, read, labels, seed=seed)
    return encoder, before, torch.from_numpy(read), torch.from_numpy(labels)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_only_the_head_moves(folder, method):
    encoder, before, _, _ = fitted(folder, method)
    heads = tuple(f"{name}." for name in encoder.head_modules)
    moved = {name for name, value in encoder.model.named_parameters() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith(heads) for name in moved)
    assert all(parameter.grad is None for parameter in encoder.model.parameters())
    assert not encoder.model.training, "the mode is as it was"


def test_the_loss_falls(folder):
    encoder, before, read, labels = fitted(folder)

    def loss():
        with torch.no_grad():
            return torch.nn.functional.cross_entropy(head_logits(encoder, read), labels).item()

    after = loss()
    with torch.no_grad():
        for name, parameter in encoder.model.named_parameters():
            parameter.copy_(before[name])
    assert after < loss()


def test_the_seed_decides(folder):
    def head(seed):
        encoder, *_ = fitted(folder, seed=seed)
        heads = tuple(f"{name}." for name in encoder.head_modules)
        return [p.detach() for n, p in encoder.model.named_parameters() if n.startswith(heads) and p.requires_grad]

    first = head(0)
    assert all(torch.equal(a, b) for a, b in zip(first, head(0), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, head(1), strict=True))
