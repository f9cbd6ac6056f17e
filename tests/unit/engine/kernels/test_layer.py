"""The node that puts a layer into autograd's graph: which gradients it asks for, and what it keeps how long."""

import weakref

import pytest
import torch
from torch import nn

from feathertune.engine.kernels.layer import Called, run
from gradients import assert_same, check_gradients

N, D = 4, 3


class Scaled:
    """``w x + b`` number by number; it notes what was asked of it and what it saved."""

    def __init__(self, *, weight=True, bias=True):
        torch.manual_seed(0)
        self._w = torch.randn(D, dtype=torch.float64, requires_grad=weight)
        self._b = torch.randn(D, dtype=torch.float64, requires_grad=bias)
        self.parameters = (self._w, self._b)
        self.asked = []
        self.saved = []

    def forward(self, x):
        kept = x.clone()
        self.saved.append(weakref.ref(kept))
        return x * self._w.detach() + self._b.detach(), (kept,)

    def backward(self, gradient, saved, *, wants_x):
        (x,) = saved
        self.asked.append(wants_x)
        return gradient * self._w.detach() if wants_x else None, [(gradient * x).sum(0), gradient.sum(0)]

    def plainly(self, x):
        return x * self._w + self._b

    def alive(self):
        return [reference() is not None for reference in self.saved]


def inputs(*, wants_x=True):
    torch.manual_seed(1)
    return torch.randn(N, D, dtype=torch.float64, requires_grad=wants_x), torch.randn(N, D, dtype=torch.float64)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("weight", [True, False])
@pytest.mark.parametrize("wants_x", [True, False])
def test_gives_the_gradients_that_are_wanted(wants_x, weight, bias):
    layer = Scaled(weight=weight, bias=bias)
    x, gradient = inputs(wants_x=wants_x)
    wanted = [tensor for tensor in (x, *layer.parameters) if tensor.requires_grad]
    output = run(layer, x)
    assert output.requires_grad == bool(wanted)
    if wanted:
        assert_same(output, layer.plainly(x), wanted, gradient)
        check_gradients(lambda *_: run(layer, x), wanted)
    assert set(layer.asked) <= {wants_x}
    assert x.grad is None
    assert all(tensor.grad is None for tensor in layer.parameters)


def test_accumulates_where_torch_does():
    layer = Scaled(weight=False)
    x, gradient = inputs()
    for _ in range(2):
        run(layer, x).backward(gradient)
    assert layer.parameters[0].grad is None
    torch.testing.assert_close(layer.parameters[1].grad, 2 * gradient.sum(0))
    torch.testing.assert_close(x.grad, 2 * gradient * layer.parameters[0])


def test_one_layer_twice_in_a_graph():
    """ALBERT's block is applied again and again."""
    layer = Scaled()
    x, gradient = inputs()
    tensors = (x, *layer.parameters)
    assert_same(run(layer, run(layer, x)), layer.plainly(layer.plainly(x)), tensors, gradient)


def test_takes_an_expanded_gradient():
    layer = Scaled()
    x, _ = inputs()
    tensors = (x, *layer.parameters)
    found = torch.autograd.grad(run(layer, x).sum(), tensors)
    for ours, theirs in zip(found, torch.autograd.grad(layer.plainly(x).sum(), tensors), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_refuses_a_second_derivative():
    layer = Scaled()
    x, gradient = inputs()
    (grad,) = torch.autograd.grad(run(layer, x), x, gradient.requires_grad_(), create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_frees_what_it_saved_with_the_backward_pass():
    layer = Scaled()
    x, gradient = inputs()
    output = run(layer, x)
    assert layer.alive() == [True]
    output.backward(gradient)
    assert layer.alive() == [False], "the output is still there, and its graph with it"
    assert output.grad_fn is not None


def test_keeps_nothing_where_nothing_is_asked():
    layer = Scaled(weight=False, bias=False)
    x, _ = inputs(wants_x=False)
    output = run(layer, x)
    assert layer.alive() == [False]
    assert output.grad_fn is None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_keeps_nothing_without_gradients(mode):
    layer = Scaled()
    x, _ = inputs()
    with mode():
        output = run(layer, x)
        torch.testing.assert_close(output, layer.plainly(x))
    assert not output.requires_grad
    assert layer.alive() == [False]


def modules():
    torch.manual_seed(2)
    first = nn.Sequential(nn.Linear(D, 2), nn.Tanh())
    second = nn.Linear(D, 4)
    second.bias.requires_grad_(False)
    return nn.ModuleList([first, second]).double()


@pytest.mark.parametrize("wants_x", [True, False])
def test_called_modules_stand_side_by_side(wants_x):
    both = modules()
    layer = Called(both, torch.float64)
    assert len(layer.parameters) == 3
    x, _ = inputs(wants_x=wants_x)
    wanted = [tensor for tensor in (x, *layer.parameters) if tensor.requires_grad]
    gradient = torch.randn(N, 6, dtype=torch.float64)
    assert_same(run(layer, x), torch.cat([module(x) for module in both], dim=-1), wanted, gradient)
    check_gradients(lambda *_: run(layer, x), wanted)


def test_a_called_module_may_leave_a_parameter_out():
    both = modules()
    both[1].unused = nn.Parameter(torch.randn(2, dtype=torch.float64))
    x, _ = inputs()
    run(Called(both, torch.float64), x).sum().backward()
    assert both[1].unused.grad is None
    assert both[1].weight.grad is not None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_called_without_gradients(mode):
    both = modules()
    layer = Called(both, torch.float64)
    with mode():
        x = torch.randn(N, D, dtype=torch.float64)
        output = run(layer, x)
        torch.testing.assert_close(output, torch.cat([module(x) for module in both], dim=-1))
    assert not output.requires_grad


@pytest.mark.parametrize("outside", [True, False])
def test_called_in_bf16(outside):
    """With and without autocast around it, which caches what it has cast."""
    both = modules().float()
    layer = Called(both, torch.bfloat16)
    x = torch.randn(N, D)
    expected = torch.cat([module(x) for module in both], dim=-1)
    gradient = torch.randn_like(expected)
    theirs = torch.autograd.grad(expected, layer.parameters, gradient)
    with torch.autocast("cpu", torch.bfloat16, enabled=outside):
        with torch.no_grad():
            run(layer, x.bfloat16())
        found = run(layer, x.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=2e-2, atol=2e-2)
    ours = torch.autograd.grad(found, layer.parameters, gradient.bfloat16())
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=2e-2, atol=2e-2 * other.abs().max().item())


def test_modules_that_keep_something_for_the_way_back_predict_too():
    """LoHa and C3A bring a function of their own, and nothing made for inference may be kept for a gradient."""

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight):
            ctx.save_for_backward(x, weight)
            return x * weight

        @staticmethod
        def backward(ctx, gradient):
            x, weight = ctx.saved_tensors
            return gradient * weight, (gradient * x).sum()

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            return Doubled.apply(x, self.weight)

    x = torch.randn(3, 4)
    with torch.inference_mode():
        assert torch.equal(run(Called([Module()], torch.float32), x + 0), 2 * x)
