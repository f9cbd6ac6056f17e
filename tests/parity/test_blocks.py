"""Blocks of BERT's form as one node each against transformers' own forward, alone and in whole models."""

import weakref

import pytest
import torch

from feathertune.engine.fast_path import fast_parts
from feathertune.engine.kernels import heads as heads_module
from feathertune.engine.kernels.block import Block
from feathertune.engine.kernels.linear import Arithmetic
from feathertune.engine.kernels.tokens import Masks, Tokens
from gradients import assert_same, check_gradients
from whole import (
    CASES,
    CONFIGS,
    CPU,
    LENGTHS,
    OF_LARGEST,
    POST_NORM,
    answers,
    assert_equal_answers,
    mode,
    prepared,
    replaced,
    same_masks,
    shared,
)

B, WIDTH = 3, 32
PADDED = [LENGTHS[name] for name in ("short-padded", "long-padded")]
ATTENTION = {"sdpa": "sdpa"}
ALL_PARTS = ["attention", "blocks", "one query in the last layer"]
PARTS = {
    "blocks-off": ["attention", "linear layers"],
    "last-layer-off": ["attention", "blocks"],
    "eager": ["linear layers"],
    "sdpa": ["linear layers"],
    "all-off": [],
}
EXACT = {"rtol": 1e-9, "atol": 1e-10}


def padding(lengths, n_queries, form):
    """Transformers' masks: bool where there is something, or added."""
    seen = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])[:, None, None, :]
    seen = seen.expand(-1, 1, n_queries, -1)
    return seen if form == "bool" else torch.zeros(seen.shape, dtype=torch.float64).masked_fill(~seen, -1e300)


def one_block(family, case):
    """A transformers' block in fp64 and the parameters of it that are trained."""
    found = prepared(family, case, dtype=torch.float64)
    module = found.encoder.blocks[0]
    masks = Masks(torch.float64)
    fast = Block(module, found.encoder.forms[0], arithmetic=Arithmetic(torch.float64), masks=masks)
    return module, fast, [p for p in module.parameters() if p.requires_grad]


def own(module, x, mask):
    output = module(x, mask)
    return output[0] if isinstance(output, tuple) else output


def tokens_of(lengths):
    """1 where there is a token and 0 where there is padding, which nobody reads: ``(B, T, 1)``."""
    return (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])[:, :, None].double()


def assert_same_tokens(fast, module, x, mask, lengths, parameters):
    """Equal over tokens; padding is zero or as the module has it, and what is said of it changes no gradient."""
    seen = tokens_of(lengths)
    found, gradient = fast(x, mask), torch.randn_like(x)
    nobodys = (found * (1 - seen)).abs().sum(dim=-1)
    runs_over_tokens = Tokens.of(mask[:, :, :1]) is not None
    assert not runs_over_tokens or nobodys.max() == 0
    assert_same(found * seen, own(module, x, mask) * seen, (x, *parameters), gradient, **EXACT)
    return runs_over_tokens


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", POST_NORM)
def test_a_block_is_the_modules_own(family, case):
    module, fast, parameters = one_block(family, case)
    torch.manual_seed(0)
    # The last two have too little padding to leave it out, and none at all that would not be filled up again.
    cases = {(9, 4, 1): True, (32, 20, 5): True, (40, 11, 40): True, (40, 39, 40): False, (9, 8, 9): False}
    for lengths, without_padding in cases.items():
        t = max(lengths)
        x = torch.randn(B, t, WIDTH, dtype=torch.float64, requires_grad=True)
        assert_same(fast(x, None), own(module, x, None), (x, *parameters), torch.randn_like(x), **EXACT)
        for n in (1, t):
            mask = padding(lengths, n, "added")
            assert assert_same_tokens(fast, module, x, mask, lengths, parameters) == without_padding


def test_a_mask_may_be_bool():
    module, fast, parameters = one_block("bert", "lora")
    x = torch.randn(B, 9, WIDTH, dtype=torch.float64, requires_grad=True)
    gradient, seen = torch.randn_like(x), tokens_of((9, 4, 1))
    found = fast(x, padding((9, 4, 1), 9, "bool"))
    expected = own(module, x, padding((9, 4, 1), 9, "added"))
    assert_same(found * seen, expected * seen, (x, *parameters), gradient, **EXACT)


@pytest.mark.parametrize("case", ["lora", "full"])
def test_gradient_of_a_block_is_that_of_the_output(case):
    _, fast, parameters = one_block("bert", case)
    x = torch.randn(B, 5, WIDTH, dtype=torch.float64, requires_grad=True)
    mask = padding((5, 3, 1), 1, "added")
    check_gradients(lambda x, *_: fast(x, mask), (x, *parameters), fast_mode=True)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", POST_NORM)
def test_a_block_whose_input_needs_no_gradient(family, case):
    """The first block of a frozen encoder."""
    module, fast, parameters = one_block(family, case)
    x, gradient = torch.randn(2, B, 9, WIDTH, dtype=torch.float64)
    assert_same(fast(x), own(module, x, None), parameters, gradient, **EXACT)


def test_a_frozen_block_passes_its_inputs_gradient_on():
    module, fast, _ = one_block("bert", "lora")
    module.requires_grad_(False)
    x = torch.randn(B, 9, WIDTH, dtype=torch.float64, requires_grad=True)
    assert_same(fast(x), own(module, x, None), (x,), torch.randn_like(x), **EXACT)
    assert not fast(x.detach()).requires_grad


@pytest.mark.parametrize("family", POST_NORM)
def test_each_dropout_is_in_its_place(family, monkeypatch):
    """Rates that are all different, and masks that are the same on both ways."""
    same_masks(monkeypatch)
    module, fast, parameters = one_block(family, "full")
    module.train()
    dropouts = [m for m in module.modules() if isinstance(m, torch.nn.Dropout)]
    for number, dropout in enumerate(dropouts):
        dropout.p = 0.2 + 0.15 * number
    assert len(dropouts) == (2 if family == "distilbert" else 3)
    for t in (9, 40):
        x = torch.randn(B, t, WIDTH, dtype=torch.float64, requires_grad=True)
        lengths = (t, 5, 2)
        mask = padding(lengths, 1, "added")
        assert assert_same_tokens(fast, module, x, mask, lengths, parameters)
        output = fast(x, mask)
        module.eval()
        assert (output - fast(x, mask)).abs().max() > 0.1
        module.train()


def test_frees_what_it_saved_piece_by_piece(monkeypatch):
    """The heads' probabilities are the largest tensors of a long text: gone before the last product goes back."""
    _, fast, parameters = one_block("bert", "lora")
    saved, alive = [], []
    forward = heads_module.SelfAttention.forward
    backward = fast._qkv.backward

    def keep_references(self, qkv, b):
        output, of_heads = forward(self, qkv, b)
        saved.extend(weakref.ref(tensor) for tensor in (of_heads[0].q, of_heads[0].k, of_heads[0].v, of_heads[0].p))
        return output, of_heads

    def look(*args, **kwargs):
        alive.extend(reference() is not None for reference in saved)
        return backward(*args, **kwargs)

    monkeypatch.setattr(heads_module.SelfAttention, "forward", keep_references)
    monkeypatch.setattr(fast._qkv, "backward", look)
    output = fast(torch.randn(B, 9, WIDTH, dtype=torch.float64, requires_grad=True))
    assert all(reference() is not None for reference in saved)
    output.sum().backward()
    assert all(parameter.grad is not None for parameter in parameters)
    assert alive == [False] * 4


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", POST_NORM)
def test_whole_models(family, case, name):
    config = CONFIGS[name]
    found, reference = shared(family, case, ATTENTION.get(name, "eager")), shared(family, case)
    with (
        mode(found.model, training=True, dropout=0.0),
        mode(reference.model, training=True, dropout=0.0),
        fast_parts(found.encoder, config, CPU) as installed,
    ):
        assert bool(replaced(found.model)) == (name != "all-off") or case == "shira"
        assert installed.parts == PARTS.get(name, ALL_PARTS)
        for lengths in LENGTHS.values() if name == "auto" else PADDED:
            expected = answers(reference, lengths)
            assert_equal_answers(answers(found, lengths), expected, of_largest=OF_LARGEST.get(name, 1e-5))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", POST_NORM)
def test_whole_models_in_eval_mode(family, case):
    found = shared(family, case)
    for lengths in PADDED:
        expected = answers(found, lengths)
        with fast_parts(found.encoder, CONFIGS["auto"], CPU):
            assert_equal_answers(answers(found, lengths), expected, of_largest=1e-5)


@pytest.mark.parametrize("name", ["auto", "last-layer-off", "last-layer-keys"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", POST_NORM)
def test_whole_models_with_dropout(family, case, name, monkeypatch):
    same_masks(monkeypatch)
    found = shared(family, case)
    with mode(found.model, training=True, dropout=0.3):
        for lengths in PADDED:
            expected = answers(found, lengths)
            with fast_parts(found.encoder, CONFIGS[name], CPU):
                assert_equal_answers(answers(found, lengths), expected, of_largest=1e-5)
