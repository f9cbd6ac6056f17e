"""A frozen weight laid out for the processor against torch's plain product."""

import pytest
import torch
from torch import nn

from feathertune.engine.kernels.matrix import FrozenMatrix, Matrices

N_IN, N_OUT = 40, 24
packs = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    reason="this processor has no bf16 products in oneDNN",
)


def weight_and_bias():
    torch.manual_seed(0)
    return torch.randn(N_OUT, N_IN), torch.randn(N_OUT)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 64, 2049])
@pytest.mark.parametrize("packed", [pytest.param(True, marks=packs), False])
def test_bf16_is_the_rounded_product(packed, rows, with_bias):
    weight, bias = weight_and_bias()
    matrix = FrozenMatrix(weight, torch.bfloat16, packed=packed)
    assert (matrix._packed is not None) == packed, "the test compares something only if it is laid out"
    x = torch.randn(rows, N_IN).bfloat16()
    bias = bias.bfloat16() if with_bias else None
    found = matrix.forward(x, bias)
    assert (found.dtype, found.shape) == (torch.bfloat16, (rows, N_OUT))
    exact = nn.functional.linear(x.double(), weight.bfloat16().double(), None if bias is None else bias.double())
    # Sums are made in fp32 and rounded once or twice, after the product and after the bias, to 8 bits.
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=2**-8 * exact.abs().max().item())
    gradient = torch.randn(rows, N_OUT).bfloat16()
    exact = gradient.double() @ weight.bfloat16().double()
    found = matrix.backward(gradient)
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=2**-8 * exact.abs().max().item())


@packs
@pytest.mark.parametrize("rows", [1, 7, 64, 2049])
def test_packed_takes_rows_that_lie_apart(rows):
    weight, bias = weight_and_bias()
    x = torch.randn(rows, 2 * N_IN).bfloat16()[:, :N_IN]
    assert rows == 1 or not x.is_contiguous()
    packed, plain = (FrozenMatrix(weight, torch.bfloat16, packed=value) for value in (True, False))
    found, expected = (matrix.forward(x, bias.bfloat16()) for matrix in (packed, plain))
    torch.testing.assert_close(found, expected, rtol=2**-7, atol=2**-7 * expected.abs().max().item())
    assert torch.equal(found, packed.forward(x.contiguous(), bias.bfloat16()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("packed", [True, False])
def test_wider_formats_are_torchs_product(packed, dtype):
    weight, bias = (tensor.to(dtype) for tensor in weight_and_bias())
    matrix = FrozenMatrix(weight, dtype, packed=packed)
    x = torch.randn(7, N_IN, dtype=dtype, requires_grad=True)
    expected = nn.functional.linear(x, weight, bias)
    gradient = torch.randn(7, N_OUT, dtype=dtype)
    torch.testing.assert_close(matrix.forward(x.detach(), bias), expected.detach(), rtol=0, atol=0)
    torch.testing.assert_close(matrix.backward(gradient), torch.autograd.grad(expected, x, gradient)[0])


@packs
def test_the_weight_is_neither_changed_nor_watched():
    weight, _ = weight_and_bias()
    weight.requires_grad_()
    before = weight.detach().clone()
    matrix = FrozenMatrix(weight, torch.bfloat16)
    output = matrix.forward(torch.randn(3, N_IN).bfloat16(), None)
    assert not output.requires_grad
    assert torch.equal(weight, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_in_the_dtype_of_products_share_one_copy(dtype):
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(n, 4), requires_grad=False) for n in (3, 5, 2)]
    before = [weight.clone() for weight in weights]
    matrices = Matrices()
    first = matrices.find(weights, dtype, packed=False)
    assert all(torch.equal(weight, value) for weight, value in zip(weights, before, strict=True))
    torch.testing.assert_close(first.weight, torch.cat(before).to(dtype))
    inside = first.weight.untyped_storage().data_ptr()
    shared = [weight.untyped_storage().data_ptr() == inside for weight in weights]
    assert shared == [dtype == torch.float32] * 3
    assert matrices.find(weights, dtype, packed=False) is first
    held = first.weight  # or its address could be used again
    del first
    again = matrices.find(weights, dtype, packed=False)
    assert (again.weight.untyped_storage().data_ptr() == held.untyped_storage().data_ptr()) == (dtype == torch.float32)
    torch.testing.assert_close(again.weight, torch.cat(before).to(dtype))
