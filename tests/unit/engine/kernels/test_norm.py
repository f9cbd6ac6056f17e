"""Norms, and sums of a part of a block and its input, against the modules they stand for."""

import warnings

import pytest
import torch
from peft import LNTuningConfig, inject_adapter_in_model
from torch import nn

from feathertune.engine.kernels import norm as norm_module
from feathertune.engine.kernels.attention import keep_mask
from feathertune.engine.kernels.layer import Called
from feathertune.engine.kernels.layer import run as run_layer
from feathertune.engine.kernels.norm import Residual, norm_layer
from gradients import assert_same, check_gradients, grads

N, D = 6, 8


class Apart(torch.autograd.Function):
    """`Residual` in the graph: it has two inputs, which `layer.run` does not take."""

    @staticmethod
    def forward(ctx, piece, x, residual, *parameters):
        ctx.piece = piece
        output, ctx.saved = piece.forward(x, residual)
        return output

    @staticmethod
    def backward(ctx, gradient):
        grad_x, grad_residual, grads = ctx.piece.backward(gradient, ctx.saved)
        return None, grad_x, grad_residual, *grads


def run(piece, x, residual):
    return Apart.apply(piece, x, residual, *piece.parameters)


def of_sum(norm, dropout=None, dtype=None):
    """The norm of a sum of an input and what a dropout leaves of another."""
    dtype = dtype or next(norm.parameters()).dtype

    def rate():
        return dropout.p if dropout is not None and dropout.training else 0.0

    return Residual(rate, of_sum=norm_layer(norm, dtype))


def layer_norm(dtype, weight=True, bias=True):
    torch.manual_seed(0)
    norm = nn.LayerNorm(D, eps=1e-3).to(dtype)
    with torch.no_grad():
        norm.weight.add_(torch.randn(D) / 3)
        norm.bias.add_(torch.randn(D))
    norm.weight.requires_grad_(weight)
    norm.bias.requires_grad_(bias)
    return norm


def inputs(dtype=torch.float64):
    torch.manual_seed(1)
    return tuple(torch.randn(N, D, dtype=dtype, requires_grad=True) for _ in range(2))


def compare(piece, norm, reference, dtype):
    x, residual = inputs(dtype)
    tensors = (x, residual, *(p for p in norm.parameters() if p.requires_grad))
    assert_same(run(piece, x, residual), reference(x, residual), tensors, torch.randn(N, D, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weight", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_is_the_norm_of_the_sum(weight, bias, dtype):
    norm = layer_norm(dtype, weight, bias)
    piece = of_sum(norm, None)
    assert len(piece.parameters) == weight + bias
    compare(piece, norm, lambda x, residual: norm(x + residual), dtype)


@pytest.mark.parametrize("weight", [True, False])
def test_gradient_is_that_of_the_output(weight):
    piece = of_sum(layer_norm(torch.float64, weight), None)
    tensors = (*inputs(), *piece.parameters)
    check_gradients(lambda x, residual, *_: run(piece, x, residual), tensors)


def test_takes_a_gradient_that_is_not_contiguous():
    norm = layer_norm(torch.float64)
    x, residual = inputs()
    gradient = torch.randn(D, N, dtype=torch.float64).t()
    tensors = (x, residual, *norm.parameters())
    assert_same(run(of_sum(norm, None), x, residual), norm(x + residual), tensors, gradient)


def fixed_keep(monkeypatch):
    torch.manual_seed(3)
    keep = keep_mask((N, D), 0.4, torch.device("cpu"))
    assert 0 < keep.sum() < N * D
    monkeypatch.setattr(norm_module, "keep_mask", lambda shape, p, device: keep)
    return keep


def test_dropout_with_the_same_mask(monkeypatch):
    keep = fixed_keep(monkeypatch)
    norm, dropout = layer_norm(torch.float64), nn.Dropout(0.4)
    piece = of_sum(norm, dropout)
    compare(piece, norm, lambda x, residual: norm(x * keep / 0.6 + residual), torch.float64)
    tensors = (*inputs(), *piece.parameters)
    check_gradients(lambda x, residual, *_: run(piece, x, residual), tensors)


def test_dropout_is_asked_at_each_pass():
    norm, dropout = layer_norm(torch.float64), nn.Dropout(0.4)
    piece = of_sum(norm, dropout)
    x, residual = inputs()
    whole = norm(x + residual)
    assert not torch.allclose(run(piece, x, residual), whole)
    dropout.eval()
    torch.testing.assert_close(run(piece, x, residual), whole)
    dropout.train()
    dropout.p = 0.0
    torch.testing.assert_close(run(piece, x, residual), whole)


def tuned_norm(dtype):
    """A norm that PEFT's LNTuning has wrapped: the module's own stays, a copy is trained."""
    holder = nn.ModuleDict({"norm": layer_norm(dtype)})
    holder.requires_grad_(False)
    with warnings.catch_warnings():  # PEFT knows no number of features of a layer norm, and says so
        warnings.simplefilter("ignore", UserWarning)
        inject_adapter_in_model(LNTuningConfig(target_modules=["norm"]), holder)
    with torch.no_grad():
        for parameter in holder.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3)
    return holder["norm"]


def group_norm(dtype):
    norm = nn.GroupNorm(2, D).to(dtype)
    with torch.no_grad():
        norm.weight.add_(torch.randn(D))
    return norm


@pytest.mark.parametrize(("make", "n_trained"), [(tuned_norm, 2), (group_norm, 2)])
def test_other_norms_run_their_own_forward(make, n_trained, monkeypatch):
    keep = fixed_keep(monkeypatch)
    norm = make(torch.float64)
    piece = of_sum(norm, nn.Dropout(0.4))
    assert isinstance(piece._of_sum._layer, Called)
    assert len(piece.parameters) == n_trained
    compare(piece, norm, lambda x, residual: norm(x * keep / 0.6 + residual), torch.float64)


def test_bf16_between_fp32_weights():
    norm = layer_norm(torch.float32)
    exact = inputs(torch.float32)
    rounded = tuple(tensor.detach().bfloat16().requires_grad_() for tensor in exact)
    found, expected = run(of_sum(norm, dtype=torch.bfloat16), *rounded), norm(sum(exact))
    assert found.dtype == torch.bfloat16
    gradient = torch.randn(N, D)
    found_grads = grads(found, (*rounded, *norm.parameters()), gradient)
    expected_grads = grads(expected, (*exact, *norm.parameters()), gradient)
    assert [grad.dtype for grad in found_grads] == 2 * [torch.bfloat16] + 2 * [torch.float32]
    for ours, theirs in zip((found, *found_grads), (expected, *expected_grads), strict=True):
        torch.testing.assert_close(ours.float(), theirs, rtol=2e-2, atol=2e-2 * theirs.abs().max().item())


class OfGemma(nn.Module):
    """Adds 1 to its weight."""

    def __init__(self, dtype):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.randn(D).to(dtype)), 1e-5

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * (1 + self.weight)


def norms_alone(dtype):
    torch.manual_seed(0)
    rms = nn.RMSNorm(D, eps=1e-5).to(dtype)
    with torch.no_grad():
        rms.weight.add_(torch.randn(D))
    return {"rms": rms, "gemma": OfGemma(dtype), "no bias": nn.LayerNorm(D, bias=False).to(dtype)}


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("kind", ["rms", "gemma", "no bias"])
def test_norms_of_one_input(kind, trained):
    norm = norms_alone(torch.float64)[kind].requires_grad_(trained)
    layer = norm_layer(norm, torch.float64)
    assert not isinstance(layer._layer, Called)
    x, _ = inputs()
    tensors = (x, *(p for p in norm.parameters() if trained))
    assert_same(run_layer(layer, x), norm(x), tensors, torch.randn(N, D, dtype=torch.float64))
    check_gradients(lambda x, *_: run_layer(layer, x), tensors)


@pytest.mark.parametrize("kind", ["rms", "gemma"])
def test_a_norm_from_fp32_to_bf16(kind):
    norm = norms_alone(torch.float32)[kind]
    layer = norm_layer(norm, torch.bfloat16)
    x, _ = inputs(torch.float32)
    found, expected, gradient = run_layer(layer, x), norm(x), torch.randn(N, D)
    assert found.dtype == torch.bfloat16
    found_grads = grads(found, (x, *norm.parameters()), gradient)
    for ours, theirs in zip(
        (found, *found_grads), (expected, *grads(expected, (x, *norm.parameters()), gradient)), strict=True
    ):
        torch.testing.assert_close(ours.float(), theirs, rtol=2e-2, atol=2e-2 * theirs.abs().max().item())


def test_a_norm_of_what_is_added():
    norm = norms_alone(torch.float64)["rms"]
    piece = Residual(lambda: 0.0, after=norm_layer(norm, torch.float64))
    compare(piece, norm, lambda x, residual: norm(x) + residual, torch.float64)
