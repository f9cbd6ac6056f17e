"""The last block for one token against the block over all rows."""

import pytest
import torch
from torch import nn

from feathertune.engine.kernels.last_layer import (
    OneTokenBlock,
    ReadTokens,
    _ExplicitKeys,
    _HeadProjection,
    _ImplicitKeys,
)
from feathertune.engine.kernels.linear import Arithmetic, LoraUpdate, Parts
from feathertune.engine.kernels.tokens import Masks
from gradients import assert_same, check_gradients
from whole import CASES, POST_NORM, prepared, same_masks

B, N_HEADS, WIDTH = 3, 2, 32
EXACT = {"rtol": 1e-9, "atol": 1e-10}
BATCHES = [(9, 4, 1), (32, 20, 5), (40, 11, 40), (1, 1, 1)]


def one_token(found, arithmetic, **settings):
    block, form = found.encoder.blocks[-1], found.encoder.forms[-1]
    read = ReadTokens("first", None)
    return OneTokenBlock(block, form, arithmetic=arithmetic, masks=Masks(torch.float64), read=read, **settings)


def last_block(family, case, **settings):
    found = prepared(family, case, dtype=torch.float64)
    module = found.encoder.blocks[-1]
    arithmetic = Arithmetic(torch.float64, fused=settings.pop("fused", True))
    fast = one_token(found, arithmetic, **settings)
    return module, fast, [p for p in module.parameters() if p.requires_grad]


def first_of(module, x, mask):
    output = module(x, mask)
    return (output[0] if isinstance(output, tuple) else output)[:, :1]


def added(lengths):
    seen = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.zeros(seen.shape, dtype=torch.float64).masked_fill(~seen, -1e300)[:, None, None, :]


def inputs(t, *, wants_x=True):
    torch.manual_seed(t)
    x = torch.randn(B, t, WIDTH, dtype=torch.float64, requires_grad=wants_x)
    return x, torch.randn(B, 1, WIDTH, dtype=torch.float64)


def train_biases(module):
    for layer in module.modules():
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            layer.bias.requires_grad_()


@pytest.mark.parametrize("settings", [{}, {"form_keys": True}, {"fused": False}], ids=["", "keys", "linear-off"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", POST_NORM)
def test_is_the_first_row_of_the_block(family, case, settings):
    module, fast, parameters = last_block(family, case, **settings)
    for lengths in BATCHES:
        x, gradient = inputs(max(lengths))
        for mask in (None, added(lengths)):
            assert_same(fast(x, mask), first_of(module, x, mask), (x, *parameters), gradient, **EXACT)


@pytest.mark.parametrize(
    ("case", "settings", "kind"),
    [
        ("lora", {}, _ImplicitKeys),
        ("lora-query-value", {}, _ImplicitKeys),
        ("full", {}, _ImplicitKeys),
        ("lora", {"form_keys": True}, _ExplicitKeys),
        ("lora", {"fused": False}, _ExplicitKeys),
        ("shira", {}, _ExplicitKeys),
    ],
)
def test_forms_keys_only_where_it_must(case, settings, kind):
    _, fast, _ = last_block("bert", case, **settings)
    assert isinstance(fast._attend, kind)


def test_trained_biases_beside_lora():
    """The values' bias is weighted by the probabilities' sum; the keys' cancels."""
    found = prepared("bert", "lora", dtype=torch.float64)
    module = found.encoder.blocks[-1]
    train_biases(module)
    fast = one_token(found, Arithmetic(torch.float64))
    parameters = [p for p in module.parameters() if p.requires_grad]
    x, gradient = inputs(9)
    mask = added((9, 4, 1))
    assert_same(fast(x, mask), first_of(module, x, mask), (x, *parameters), gradient, **EXACT)


@pytest.mark.parametrize("form_keys", [False, True])
def test_an_input_that_needs_no_gradient(form_keys):
    module, fast, parameters = last_block("bert", "lora", form_keys=form_keys)
    x, gradient = inputs(9, wants_x=False)
    assert_same(fast(x), first_of(module, x, None), parameters, gradient, **EXACT)


@pytest.mark.parametrize("form_keys", [False, True])
@pytest.mark.parametrize("family", POST_NORM)
def test_each_dropout_is_in_its_place(family, form_keys, monkeypatch):
    """With masks that drop the same keys and features in each row; a dropped key takes its share of the bias too."""
    same_masks(monkeypatch)
    module, fast, parameters = last_block(family, "full", form_keys=form_keys)
    module.train()
    for number, dropout in enumerate(m for m in module.modules() if isinstance(m, nn.Dropout)):
        dropout.p = 0.2 + 0.15 * number
    for lengths in BATCHES[:3]:
        x, gradient = inputs(max(lengths))
        mask = added(lengths)
        assert_same(fast(x, mask), first_of(module, x, mask), (x, *parameters), gradient, **EXACT)


@pytest.mark.parametrize("form_keys", [False, True])
def test_gradient_is_that_of_the_output(form_keys):
    _, fast, parameters = last_block("bert", "lora", form_keys=form_keys)
    x, _ = inputs(5)
    mask = added((5, 3, 1))
    check_gradients(lambda x, *_: fast(x, mask), (x, *parameters), fast_mode=True)


def parts(width, *, bias=True, update=True):
    def random(*shape):
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    factors = LoraUpdate(random(2, WIDTH), random(width, 2), 0.7) if update else None
    return Parts(random(width, WIDTH), random(width) if bias else None, factors)


def whole_weight(part):
    return part.weight if part.update is None else part.weight + part.update.scaling * part.update.b @ part.update.a


def tensors_of(part):
    factors = () if part.update is None else (part.update.a, part.update.b)
    return [tensor for tensor in (part.weight, part.bias, *factors) if tensor is not None]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("update", [True, False])
def test_heads_are_the_layer_cut_in_pieces(update, bias):
    torch.manual_seed(0)
    d = 4
    part = parts(N_HEADS * d, bias=bias, update=update)
    heads = _HeadProjection(part, N_HEADS, Arithmetic(torch.float64))
    rows = torch.randn(B, N_HEADS, d, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(B, N_HEADS, WIDTH, dtype=torch.float64)
    expected = torch.einsum("bhd,hdw->bhw", rows, whole_weight(part).view(N_HEADS, d, WIDTH))
    assert_same(heads.transposed(rows), expected, (rows, *tensors_of(part)), gradient, **EXACT)
    columns = torch.randn(B, N_HEADS, WIDTH, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(B, N_HEADS, 1, dtype=torch.float64, requires_grad=True)
    expected = torch.einsum("bhw,hdw->bhd", columns, whole_weight(part).view(N_HEADS, d, WIDTH))
    expected = expected if part.bias is None else expected + weights * part.bias.view(N_HEADS, d)
    inputs = (columns, weights, *tensors_of(part))
    gradient = torch.randn(B, N_HEADS, d, dtype=torch.float64)
    assert_same(heads.forward(columns, weights), expected, inputs, gradient, **EXACT)
