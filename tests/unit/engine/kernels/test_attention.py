"""Attention by hand against the textbook: outputs and gradients as whole tensors."""

import math

import pytest
import torch

from feathertune.engine.kernels import attention
from feathertune.engine.kernels.attention import MASKED, attend, keep_mask
from gradients import assert_same, check_gradients, grads

B, H, WIDTH = 3, 2, 4
SCALING = WIDTH**-0.5
LENGTHS = [1, 5, 27, 31, 32, 33, 64, 70, 96]


def no_mask(n_queries, n_keys, dtype):
    return None


def padding(n_queries, n_keys, dtype):
    """Texts of different lengths; the first is whole."""
    lengths = torch.tensor([n_keys, max(1, n_keys // 2), 1])
    masked = torch.arange(n_keys) >= lengths[:, None]
    return torch.zeros(B, n_keys, dtype=dtype).masked_fill(masked, MASKED)[:, None, None, :]


def bias_of_text(n_queries, n_keys, dtype):
    """A window around each query, and a bias inside of it."""
    distance = (torch.arange(n_queries)[:, None] - torch.arange(n_keys)).abs()
    bias = torch.randn(B, 1, n_queries, n_keys, dtype=dtype)
    return bias.masked_fill((distance > 3) & (torch.arange(n_keys) > 0), MASKED)


def bias_of_head(n_queries, n_keys, dtype):
    return torch.randn(1, H, n_queries, n_keys, dtype=dtype)


MASKS = [no_mask, padding, bias_of_text, bias_of_head]


def heads(n_queries, n_keys, dtype=torch.float64):
    """Queries, keys, values and a gradient of the output; the layout is that of a joined product."""
    torch.manual_seed(n_queries * 100 + n_keys)
    q = torch.randn(B, n_queries, H, WIDTH, dtype=dtype).transpose(1, 2).requires_grad_()
    k, v = (torch.randn(B, n_keys, H, WIDTH, dtype=dtype).transpose(1, 2).requires_grad_() for _ in range(2))
    return (q, k, v), torch.randn(B, H, n_queries, WIDTH, dtype=dtype)


def textbook(q, k, v, mask, *, scaling, dropout=0.0, keep=None):
    scores = q @ k.transpose(-1, -2) * scaling
    p = (scores if mask is None else scores + mask).softmax(-1)
    return (p if keep is None else p * keep / (1 - dropout)) @ v


@pytest.mark.parametrize("n_keys", LENGTHS)
@pytest.mark.parametrize("mask", MASKS)
def test_is_softmax_attention(mask, n_keys):
    for n_queries in {1, n_keys}:
        tensors, gradient = heads(n_queries, n_keys)
        bias = mask(n_queries, n_keys, torch.float64)
        found = attend(*tensors, bias, scaling=SCALING)
        assert found.shape == (B, H, n_queries, WIDTH)
        assert_same(found, textbook(*tensors, bias, scaling=SCALING), tensors, gradient, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("n_keys", LENGTHS)
@pytest.mark.parametrize("mask", MASKS)
def test_is_softmax_attention_in_fp32(mask, n_keys):
    tensors, gradient = heads(n_keys, n_keys, torch.float32)
    bias = mask(n_keys, n_keys, torch.float32)
    expected = textbook(*tensors, bias, scaling=0.3)
    assert_same(attend(*tensors, bias, scaling=0.3), expected, tensors, gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_keys", LENGTHS)
@pytest.mark.parametrize("mask", MASKS)
def test_bf16_is_near_fp32(mask, n_keys):
    for n_queries in {1, n_keys}:
        exact, gradient = heads(n_queries, n_keys, torch.float32)
        bias = mask(n_queries, n_keys, torch.float32)
        rounded = tuple(tensor.detach().bfloat16().requires_grad_() for tensor in exact)
        found = attend(*rounded, None if bias is None else bias.bfloat16(), scaling=SCALING)
        assert found.dtype == torch.bfloat16
        expected = textbook(*exact, bias, scaling=SCALING)
        found_grads = grads(found, rounded, gradient)
        expected_grads = grads(expected, exact, gradient)
        for ours, theirs in zip((found, *found_grads), (expected, *expected_grads), strict=True):
            # Relative to the largest: each number is a sum of terms that have been rounded to 8 bits.
            bound = 2e-2 * max(1.0, theirs.abs().max().item())
            torch.testing.assert_close(ours.float(), theirs, rtol=2e-2, atol=bound)


@pytest.mark.parametrize("n_keys", [1, 5, 31, 32, 33, 70])
@pytest.mark.parametrize("mask", MASKS)
def test_gradient_is_that_of_the_output(mask, n_keys):
    (q, k, v), _ = heads(2, n_keys)
    bias = mask(2, n_keys, torch.float64)
    tensors = tuple(tensor.detach()[..., :2].clone().requires_grad_() for tensor in (q, k, v))
    check_gradients(lambda *inputs: attend(*inputs, bias, scaling=SCALING), tensors)


def fixed_keep(monkeypatch, p):
    """Let dropout draw the same mask each time; it is handed out wide enough for the filled keys too."""

    def draw(shape, dropout, device):
        assert dropout == p
        generator = torch.Generator().manual_seed(7)
        return torch.rand((*shape[:-1], 128), generator=generator)[..., : shape[-1]] >= dropout

    monkeypatch.setattr(attention, "keep_mask", draw)
    return draw


@pytest.mark.parametrize("n_keys", LENGTHS)
@pytest.mark.parametrize("mask", MASKS)
def test_dropout_with_the_same_mask(mask, n_keys, monkeypatch):
    p = 0.3
    draw = fixed_keep(monkeypatch, p)
    for n_queries in {1, n_keys}:
        tensors, gradient = heads(n_queries, n_keys)
        bias = mask(n_queries, n_keys, torch.float64)
        keep = draw((B * H, n_queries, n_keys), p, torch.device("cpu")).view(B, H, n_queries, n_keys)
        expected = textbook(*tensors, bias, scaling=SCALING, dropout=p, keep=keep)
        found = attend(*tensors, bias, scaling=SCALING, dropout=p)
        assert_same(found, expected, tensors, gradient, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("n_keys", [5, 33])
def test_gradient_with_dropout_is_that_of_the_output(n_keys, monkeypatch):
    fixed_keep(monkeypatch, 0.4)
    (q, k, v), _ = heads(2, n_keys)
    tensors = tuple(tensor.detach()[..., :2].clone().requires_grad_() for tensor in (q, k, v))
    bias = padding(2, n_keys, torch.float64)
    check_gradients(lambda *inputs: attend(*inputs, bias, scaling=SCALING, dropout=0.4), tensors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n_keys", [2, 27, 33, 64, 70])
def test_a_masked_key_has_no_weight_at_all(n_keys, dtype):
    (q, k, v), gradient = heads(n_keys, n_keys, torch.float32)
    bias = padding(n_keys, n_keys, dtype)
    q, k, v = (tensor.detach().to(dtype).requires_grad_() for tensor in (q, k, v))
    masked = (bias[:, 0, 0] != 0)[:, None, :, None].expand_as(v)
    assert masked.any()
    with torch.no_grad():  # a wild value of a masked key must not be seen, were its weight as small as it likes
        v[masked] = 1e30
        k[masked] = 3.0
    output = attend(q, k, v, bias, scaling=SCALING)
    assert output.abs().max() < 10
    # The gradients' zeros: a masked key's value has none, and nor has the key, which the wild value would show.
    grad_v = torch.autograd.grad(output, v, gradient.to(dtype))[0]
    assert (grad_v[masked] == 0).all()
    assert (grad_v[~masked] != 0).any()


def test_one_call_does_not_change_what_it_is_given():
    (q, k, v), _ = heads(32, 32)
    bias = bias_of_text(32, 32, torch.float64)
    before = [tensor.detach().clone() for tensor in (q, k, v, bias)]
    attend(q, k, v, bias, scaling=SCALING).sum().backward()
    for now, then in zip((q, k, v, bias), before, strict=True):
        assert torch.equal(now, then)


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_keep_mask_keeps_its_share(p):
    torch.manual_seed(0)
    shape = (7, 101, 303)
    keep = keep_mask(shape, p, torch.device("cpu"))
    n = math.prod(shape)
    assert (keep.dtype, keep.shape) == (torch.bool, shape)
    # Five standard deviations of a binomial, and what sixteen bits cannot say.
    assert abs(keep.double().mean().item() - (1 - p)) < 5 * math.sqrt(p * (1 - p) / n) + 2**-16
    # Each of the four numbers that one drawn word makes has the share of its own, and neighbours do not go together.
    flat = keep.flatten()[: n // 4 * 4].view(-1, 4).double()
    assert (flat.mean(0) - (1 - p)).abs().max() < 5 * math.sqrt(p * (1 - p) * 4 / n) + 2**-16
    together = ((flat[:, 0] - (1 - p)) * (flat[:, 1] - (1 - p))).mean().item()
    assert abs(together) < 5 * p * (1 - p) * math.sqrt(4 / n) + 2**-14


def test_keep_mask_depends_on_the_seed_alone():
    def drawn(seed):
        torch.manual_seed(seed)
        return keep_mask((3, 50), 0.5, torch.device("cpu"))

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    torch.manual_seed(1)
    first, second = (keep_mask((3, 50), 0.5, torch.device("cpu")) for _ in range(2))
    assert not torch.equal(first, second)


def test_cannot_be_differentiated_twice():
    tensors, gradient = heads(5, 5)
    output = attend(*tensors, None, scaling=SCALING)
    (grad,) = torch.autograd.grad(output, tensors[0], gradient.requires_grad_(), create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
