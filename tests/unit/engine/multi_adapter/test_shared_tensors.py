"""Equal tensors of several models are one; what differs stays, and so do the answers."""

import gc

import torch
from torch import nn

from feathertune.engine.kernels.matrix import Matrices
from feathertune.engine.multi_adapter.shared_tensors import SharedTensors


def model(seed, width=16):
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width), nn.Linear(width, 2))
    made.register_buffer("table", torch.arange(400.0))
    return made.requires_grad_(False)


def test_equal_tensors_become_one_and_others_stay():
    shared = SharedTensors()
    first, second = model(0), model(0)
    with torch.no_grad():
        second[2].weight += 1e-7 + second[2].weight.abs()
    expected = second[2].weight.clone()
    x = torch.randn(3, 16)
    before = second(x)
    total = sum(t.nbytes for t in (*first.parameters(), *first.buffers()))
    assert shared.share(first) == total
    assert shared.share(second) == second[2].weight.nbytes
    assert second[0].weight is first[0].weight
    assert second.table is first.table
    assert second[2].weight is not first[2].weight
    assert torch.equal(second[2].weight, expected)
    assert torch.equal(second(x), before)
    assert list(dict(second.named_parameters())) == list(dict(first.named_parameters()))


def test_a_tensor_lives_as_long_as_a_model_that_has_it():
    shared = SharedTensors()
    first, second = model(0), model(0)
    shared.share(first)
    shared.share(second)
    del first
    gc.collect()
    third = model(0)
    shared.share(third)
    assert third[0].weight is second[0].weight
    del second, third
    gc.collect()
    assert len(shared._known) == 0


def test_shape_dtype_and_kind_tell_tensors_apart():
    shared = SharedTensors()
    one = nn.Module()
    one.a = nn.Parameter(torch.zeros(8, 16), requires_grad=False)
    one.b = nn.Parameter(torch.zeros(16, 8), requires_grad=False)
    one.c = nn.Parameter(torch.zeros(8, 16, dtype=torch.int32), requires_grad=False)
    one.register_buffer("d", torch.zeros(8, 16))
    one.e = nn.Parameter(torch.zeros(8, 16), requires_grad=False)
    shared.share(one)
    assert one.e is one.a
    assert len({id(t) for t in (one.a, one.b, one.c, one.d)}) == 4
    assert isinstance(one.a, nn.Parameter)
    assert not isinstance(one.d, nn.Parameter)


def test_what_is_made_of_shared_weights_is_made_once_and_let_go():
    matrices = Matrices()
    weights = [torch.randn(3, 4), torch.randn(2, 4)]
    first = matrices.find(weights, torch.float32, packed=False)
    assert torch.equal(first.weight, torch.cat(weights))
    assert matrices.find(list(weights), torch.float32, packed=False) is first
    assert matrices.find(weights[::-1], torch.float32, packed=False) is not first
    assert matrices.find([weights[0], weights[1].clone()], torch.float32, packed=False) is not first
    assert matrices.find(weights, torch.bfloat16, packed=False).weight.dtype == torch.bfloat16
    del first
    gc.collect()
    assert len(matrices._kept) == 0
