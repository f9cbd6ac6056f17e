"""Blocks that run again on the way back give the same bits as blocks that keep what they computed, dropout included."""

import pytest
import torch

from feathertune.config import EngineConfig
from feathertune.engine.fast_path import fast_parts
from feathertune.engine.kernels.layer import Recomputed, run
from feathertune.engine.kernels.linear import Arithmetic
from whole import CPU, LENGTHS, answers, mode, shared


@pytest.mark.parametrize("case", ["lora", "full"])
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_same_bits(family, case):
    found = shared(family, case)
    results = {}
    with mode(found.model, training=True, dropout=0.3):
        for recompute in ("on", "off"):
            with fast_parts(found.encoder, EngineConfig(recompute=recompute), CPU):
                torch.manual_seed(5)
                results[recompute] = [answers(found, LENGTHS[name]) for name in ("short-padded", "long-padded")]
                results[recompute].append({"next draw": torch.rand(3)})
    for one, other in zip(results["on"], results["off"], strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            assert torch.equal(one[name], value), name


def test_dropout_reaches_the_blocks():
    """Else the test above would say nothing of the draws."""
    found = shared("bert", "lora")
    with mode(found.model, training=True, dropout=0.3), fast_parts(found.encoder, EngineConfig(recompute="on"), CPU):
        one, other = (answers(found, LENGTHS["short"])["logits"] for _ in range(2))
    assert not torch.equal(one, other)


def test_keeps_the_input_alone():
    layer = Arithmetic(torch.float32).join([torch.nn.Linear(4, 6)])
    x = torch.randn(3, 4)
    _, saved = Recomputed(layer).forward(x)
    assert saved[0] is x
    assert saved[1].dtype == torch.uint8, "the state of the generator"
    assert len(saved) == 2
    x.requires_grad_()
    expected = torch.autograd.grad(run(layer, x).sum(), [x, *layer.parameters])
    found = torch.autograd.grad(run(Recomputed(layer), x).sum(), [x, *layer.parameters])
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
