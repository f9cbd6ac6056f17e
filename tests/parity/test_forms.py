"""Blocks of other forms than BERT's against transformers' own: whole models, and rotated and grouped heads."""

import pytest
import torch

from feathertune.config import EngineConfig
from feathertune.engine.fast_path import fast_parts
from feathertune.engine.kernels.block import Block
from feathertune.engine.kernels.heads import Rotary
from feathertune.engine.kernels.last_layer import ReadTokens
from feathertune.engine.kernels.linear import Arithmetic
from feathertune.engine.kernels.tokens import Masks
from gradients import assert_same, check_gradients, grads
from whole import (
    BF16,
    CASES,
    CONFIGS,
    CPU,
    LENGTHS,
    OTHER_FORMS,
    answers,
    assert_equal_answers,
    batch,
    logits_of,
    mode,
    prepared,
    same_masks,
    shared,
)

B, T, WIDTH, SIZE = 2, 6, 32, 8
READS_ALL = {"albert", "modernbert", "eurobert"}  # its blocks are one, or the head reads a mean
PADDED = [LENGTHS[name] for name in ("short-padded", "long-padded", "multiple-padded")]


# BERT's form has all cases with all switches.
OF_SWITCHES = ("linear-off", "last-layer-off", "last-layer-keys")


@pytest.mark.parametrize(
    ("case", "name"), [*((case, "auto") for case in CASES), *(("lora", name) for name in OF_SWITCHES)]
)
@pytest.mark.parametrize("family", OTHER_FORMS)
def test_whole_models(family, case, name):
    found = shared(family, case)
    with mode(found.model, training=True, dropout=0.0):
        expected = {lengths: answers(found, lengths) for lengths in LENGTHS.values()}
        with fast_parts(found.encoder, CONFIGS[name], CPU) as installed:
            assert "blocks" in installed.parts
            one_token = family not in READS_ALL and name != "last-layer-off"
            assert ("one query in the last layer" in installed.parts) == one_token
            for lengths, answer in expected.items():
                assert_equal_answers(answers(found, lengths), answer, of_largest=1e-5)


@pytest.mark.parametrize("case", ["lora", "full"])
@pytest.mark.parametrize("family", OTHER_FORMS)
def test_bf16_rounds_no_more_than_transformers_under_autocast(family, case):
    found, parts = shared(family, case), ("logits", "gradients")
    values = {(who, part): [] for who in ("exact", "plain", "ours") for part in parts}
    for lengths in PADDED:
        said = {"exact": answers(found, lengths), "plain": answers(found, lengths, BF16)}
        with fast_parts(found.encoder, EngineConfig(), BF16):
            said["ours"] = answers(found, lengths, BF16)
        assert not torch.equal(said["ours"]["logits"], said["exact"]["logits"]), "bf16 is what it was computed in"
        for who, answer in said.items():
            values[who, "logits"].append(answer.pop("logits").flatten())
            values[who, "gradients"] += [gradient.flatten() for gradient in answer.values()]
    for part in parts:
        exact, plain, ours = (torch.cat(values[who, part]) for who in ("exact", "plain", "ours"))
        mine, theirs, size = (torch.linalg.vector_norm(tensor) for tensor in (ours - exact, plain - exact, exact))
        assert mine <= 1.5 * theirs + 1e-2 * size, part


@pytest.mark.parametrize("family", ["llama", "phi3", "albert", "deberta-v2", "mpnet"])
def test_dropout_in_its_place(family, monkeypatch):
    """Of the probabilities, and of what is added where a family has that."""
    same_masks(monkeypatch)
    found = shared(family, "lora")
    with mode(found.model, training=True, dropout=0.3):
        expected = answers(found, PADDED[0])
        assert (expected["logits"] - logits_of(shared(family, "lora"), PADDED[0])).abs().max() >= 0
        with fast_parts(found.encoder, CONFIGS["last-layer-off"], CPU) as installed:
            assert "blocks" in installed.parts
            assert_equal_answers(answers(found, PADDED[0]), expected, of_largest=1e-5)


def test_a_dropout_elsewhere_leaves_the_block_its_own_forward():
    found = prepared("modernbert", "lora")
    for block in found.encoder.blocks:
        block.mlp.drop.p = 0.3
    with fast_parts(found.encoder, EngineConfig(), CPU) as installed:
        assert "blocks" not in installed.parts


def test_another_module_in_a_block_leaves_it_its_own_forward():
    found = prepared("llama", "lora")
    attention = found.encoder.blocks[0].self_attn
    attention.__class__ = type("Other", (type(attention),), {})
    with fast_parts(found.encoder, EngineConfig(), CPU) as installed:
        assert "blocks" not in installed.parts


@pytest.mark.parametrize("family", ["llama", "olmo2", "modernbert", "phi3"])
def test_gradient_of_a_block_is_that_of_the_output(family):
    found = prepared(family, "lora", dtype=torch.float64)
    module, form, masks = found.encoder.blocks[1], found.encoder.forms[1], Masks(torch.float64)
    fast = Block(module, form, arithmetic=Arithmetic(torch.float64), masks=masks)
    torch.manual_seed(0)
    x = torch.randn(B, T, WIDTH, dtype=torch.float64, requires_grad=True)
    tables = torch.randn(2, 1, T, form.head_size, dtype=torch.float64)
    causal = torch.ones(T, T, dtype=torch.bool).tril().expand(B, 1, T, T).clone()
    causal[0, :, :, 4:] = False
    parameters = [p for p in module.parameters() if p.requires_grad]
    check_gradients(lambda x, *_: fast(x, causal, tuple(tables)), (x, *parameters), fast_mode=True)


@pytest.mark.parametrize("width", [SIZE, SIZE // 2])
def test_rotation_is_transformers(width):
    from transformers.models.llama.modeling_llama import rotate_half

    torch.manual_seed(0)
    x = torch.randn(B, T, 3, SIZE, dtype=torch.float64, requires_grad=True)
    cos, sin = torch.randn(2, B, T, width, dtype=torch.float64)
    turned, kept = x[..., :width], x[..., width:]
    expected = torch.cat([turned * cos[:, :, None] + rotate_half(turned) * sin[:, :, None], kept], dim=-1)
    rotary, gradient = Rotary(cos, sin), torch.randn(x.shape, dtype=torch.float64)
    torch.testing.assert_close(rotary.backward(gradient), grads(rotary.forward(x), (x,), gradient)[0])
    assert_same(rotary.forward(x), expected, (x,), gradient)
    places = torch.tensor([4, 1])
    rows = x[torch.arange(B), places].unsqueeze(1)
    torch.testing.assert_close(rotary.at(places).forward(rows)[:, 0], expected[torch.arange(B), places])
    torch.testing.assert_close(rotary.of(slice(1, 2)).forward(x[1:]), expected[1:])


def test_the_last_token_is_the_last_that_is_not_padding():
    read = ReadTokens("last", 0)
    ids = torch.tensor([[5, 6, 7, 0, 0], [0, 0, 5, 6, 7], [5, 0, 6, 0, 0]])
    read.noting(lambda *_: None)(ids)
    assert read.places(3, 5, ids.device).tolist() == [2, 4, 2]
    read.noting(lambda **_: None)(inputs_embeds=ids)
    assert read.places(3, 5, ids.device).tolist() == [4, 4, 4]


def test_a_text_that_ends_in_the_padding_token():
    """Transformers reads the token before it, by its id."""
    found = shared("llama", "lora")
    inputs = batch(found.encoder, (9, 9))
    inputs["input_ids"][0, -2:] = found.encoder.tokenizer.pad_token_id
    with torch.no_grad():
        expected = found.model(**inputs).logits
        with fast_parts(found.encoder, EngineConfig(), CPU) as installed:
            assert "one query in the last layer" in installed.parts
            torch.testing.assert_close(found.model(**inputs).logits, expected, rtol=1e-5, atol=1e-5)
