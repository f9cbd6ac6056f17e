"""Fast parts in whole models: nothing but rounding changes while they are in, and nothing at all afterwards."""

import inspect
import warnings

import numpy as np
import peft
import pytest
import torch
from transformers import DynamicCache

from feathertune.engine.fast_path import fast_parts
from feathertune.engine.training.optim import make_optimizer
from tiny import FAMILIES
from whole import (
    BF16,
    CASES,
    CONFIGS,
    CPU,
    LENGTHS,
    OF_LARGEST,
    OTHERS,
    Prepared,
    answers,
    assert_equal_answers,
    batch,
    logits_of,
    mode,
    prepared,
    replaced,
    same_masks,
    set_dropout,
    shared,
)

PADDED = [LENGTHS[name] for name in ("short-padded", "long-padded")]
ATTENTION = {"sdpa": "sdpa"}
# The other switches are of blocks that these families have not.
OF_OTHERS = ["auto", "linear-off", "eager", "sdpa", "all-off"]


@pytest.mark.parametrize("name", OF_OTHERS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", OTHERS)
def test_families_with_blocks_of_their_own(family, case, name):
    config = CONFIGS[name]
    found, reference = shared(family, case, ATTENTION.get(name, "eager")), shared(family, case)
    with (
        mode(found.model, training=True, dropout=0.0),
        mode(reference.model, training=True, dropout=0.0),
        fast_parts(found.encoder, config, CPU) as installed,
    ):
        assert bool(replaced(found.model)) == (config.linear == "auto" and case != "shira")
        own = config.attention == "auto" and type(found.encoder.model)._supports_sdpa
        assert ("attention" in installed.parts) == own
        assert installed.notes
        for lengths in LENGTHS.values() if name == "auto" else PADDED:
            expected = answers(reference, lengths)
            assert_equal_answers(answers(found, lengths), expected, of_largest=OF_LARGEST.get(name, 1e-5))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", OTHERS)
def test_families_with_blocks_of_their_own_in_eval_mode_and_with_dropout(family, case, monkeypatch):
    found = shared(family, case)
    for lengths in PADDED:
        expected = answers(found, lengths)
        with fast_parts(found.encoder, CONFIGS["auto"], CPU):
            assert_equal_answers(answers(found, lengths), expected, of_largest=1e-5)
    same_masks(monkeypatch)
    with mode(found.model, training=True, dropout=0.3):
        for lengths in PADDED:
            expected = answers(found, lengths)
            with fast_parts(found.encoder, CONFIGS["auto"], CPU):
                assert_equal_answers(answers(found, lengths), expected, of_largest=1e-5)


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("name", ["auto", "blocks-off", "sdpa"])
@pytest.mark.parametrize("family", FAMILIES)
def test_everything_is_as_before(family, name, raises):
    found = shared(family, "lora", ATTENTION.get(name, "eager"))
    attributes = {n: sorted(vars(m)) for n, m in found.model.named_modules()}
    implementation = found.encoder.model.config._attn_implementation
    state = {n: t.clone() for n, t in found.model.state_dict().items()}
    before = [logits_of(found, lengths) for lengths in PADDED]

    def use():
        with fast_parts(found.encoder, CONFIGS[name], CPU):
            assert replaced(found.model)
            assert found.model.state_dict().keys() == state.keys()
            answers(found, PADDED[0])
            if raises:
                raise KeyboardInterrupt

    if raises:
        with pytest.raises(KeyboardInterrupt):
            use()
    else:
        use()
    assert replaced(found.model) == []
    assert {n: sorted(vars(m)) for n, m in found.model.named_modules()} == attributes
    assert found.encoder.model.config._attn_implementation == implementation
    assert all(torch.equal(tensor, state[n]) for n, tensor in found.model.state_dict().items())
    for lengths, logits in zip(PADDED, before, strict=True):
        assert torch.equal(logits_of(found, lengths), logits)


def test_an_error_while_putting_in_leaves_nothing(monkeypatch):
    found = shared("bert", "lora")

    def fail(*args, **kwargs):
        raise RuntimeError("no")

    monkeypatch.setattr("feathertune.engine.fast_path.OneTokenBlock", fail)
    with pytest.raises(RuntimeError, match="no"), fast_parts(found.encoder, CONFIGS["auto"], CPU):
        pass
    assert replaced(found.model) == []
    assert found.encoder.model.config._attn_implementation == "eager"


@pytest.mark.parametrize("entered", ["inside", "outside"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", ["bert", "distilbert", "albert", "deberta", "modernbert"])
def test_works_without_gradients(family, case, entered):
    found = shared(family, case)
    for lengths in PADDED:
        expected = logits_of(found, lengths).detach()
        if entered == "inside":
            with torch.inference_mode(), fast_parts(found.encoder, CONFIGS["auto"], CPU):
                logits = logits_of(found, lengths)
        else:
            with fast_parts(found.encoder, CONFIGS["auto"], CPU):
                with torch.inference_mode():
                    logits = logits_of(found, lengths)
                assert_equal_answers(answers(found, lengths), answers(found, lengths), of_largest=0)
        torch.testing.assert_close(logits.clone(), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("name", ["auto", "packed-off", "blocks-off", "linear-off", "last-layer-keys"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", ["bert", "electra", "modernbert"])
def test_bf16_is_near_fp32(family, case, name):
    """Not DistilBERT: its head has a kink, and one unit that rounding puts on its other side is a tenth of all."""
    found = shared(family, case)
    for lengths in PADDED:
        expected = answers(found, lengths)
        with fast_parts(found.encoder, CONFIGS[name], BF16):
            rounded = answers(found, lengths, BF16)
        logits, exact = rounded.pop("logits"), expected.pop("logits")
        assert not torch.equal(logits, exact), "bf16 is what it was computed in"
        torch.testing.assert_close(logits, exact, rtol=0, atol=2e-2 * exact.abs().max().item())
        whole = torch.linalg.vector_norm(torch.cat([gradient.flatten() for gradient in expected.values()]))
        for parameter, gradient in expected.items():
            # Gradients have gone through twice as many roundings. What is zero but for rounding, as a key's bias, is
            # small beside the whole.
            error = torch.linalg.vector_norm(rounded[parameter] - gradient)
            assert error <= 5e-2 * torch.linalg.vector_norm(gradient) + 5e-3 * whole, parameter


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_is_drawn_from_the_seed(family, case):
    found = shared(family, case)

    def drawn(seed):
        torch.manual_seed(seed)
        return answers(found, PADDED[0])

    with mode(found.model, training=True, dropout=0.1), fast_parts(found.encoder, CONFIGS["auto"], CPU):
        first, again, other = drawn(0), drawn(0), drawn(1)
    assert all(tensor.isfinite().all() for tensor in first.values())
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert not torch.equal(first["logits"], other["logits"])


@pytest.mark.parametrize("name", ["auto", "blocks-off"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", ["bert", "distilbert", "albert", "modernbert"])
def test_steps_are_seen_inside_and_stay_afterwards(family, case, name):
    """The fused optimizer changes parameters in place while the parts are in."""
    found = prepared(family, case)
    before = logits_of(found, PADDED[0])
    optimizer = make_optimizer(found.model, learning_rate=1e-2, weight_decay=0.1)
    with fast_parts(found.encoder, CONFIGS[name], CPU):
        for lengths in PADDED:
            logits_of(found, lengths).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        inside = answers(found, PADDED[0])
    assert (inside["logits"] - before).abs().max() > 1e-2
    assert_equal_answers(inside, answers(found, PADDED[0]), of_largest=1e-5)


@pytest.mark.parametrize("family", ["bert", "albert", "modernbert"])
def test_two_passes_before_one_backward(family):
    """What the first pass keeps is not overwritten by the second."""
    found = shared(family, "lora")
    parameters = [p for p in found.model.parameters() if p.requires_grad]

    def both():
        loss = sum(logits_of(found, lengths).square().sum() for lengths in PADDED)
        return torch.autograd.grad(loss, parameters)

    expected = both()
    with fast_parts(found.encoder, CONFIGS["auto"], CPU):
        for ours, theirs in zip(both(), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * max(1.0, theirs.abs().max().item()))


def adapted(make_config):
    """BERT under another method of PEFT, moved from where it begins."""
    encoder = prepared("bert", "full").encoder
    encoder.model.requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers by a name that will go
        model = peft.get_peft_model(encoder.model, make_config(list(encoder.linear_names())))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    set_dropout(model, 0.0)
    return Prepared(encoder, model.train())


# The methods themselves are in `tests/conformance`; these are settings that no method of ours has.
OTHER_SETTINGS = {
    "biases": lambda names: peft.LoraConfig(r=2, target_modules=names, bias="all"),
    "key alone": lambda names: peft.LoraConfig(r=2, target_modules=["key"]),
    "one layer": lambda names: peft.LoraConfig(r=2, target_modules=names, layers_to_transform=[1]),
}


@pytest.mark.parametrize("name", ["auto", "last-layer-keys", "blocks-off"])
@pytest.mark.parametrize("setting", OTHER_SETTINGS)
def test_other_settings_of_lora(setting, name):
    found = adapted(OTHER_SETTINGS[setting])
    for lengths in PADDED:
        expected = answers(found, lengths)
        assert sum(bool(tensor.any()) for tensor in expected.values()) > 1
        with fast_parts(found.encoder, CONFIGS[name], CPU):
            assert_equal_answers(answers(found, lengths), expected, of_largest=1e-5)


class Prefix(DynamicCache):
    """One key and value before those of each layer, as prefix tuning gives them."""

    def update(self, key_states, value_states, layer_idx, *args, **kwargs):
        drawn = torch.randn(2, *key_states[:, :, :1].shape, generator=torch.Generator().manual_seed(layer_idx))
        return torch.cat([drawn[0], key_states], dim=2), torch.cat([drawn[1], value_states], dim=2)


@pytest.mark.parametrize("as_keyword", [True, False])
@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
def test_keys_and_values_from_before_are_not_passed_over(family, as_keyword):
    """The engine's blocks know none: the block's own forward takes them, and the next batch is the engine's again."""
    found = shared(family, "lora")
    block = found.encoder.blocks[0]
    names = list(inspect.signature(type(block).forward).parameters)[1:]
    name = next(name for name in names if name in ("cache", "past_key_values"))
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    before = Prefix()
    more = [None] * (names.index(name) - 1)

    def with_prefix():
        output = block(x, **{name: before}) if as_keyword else block(x, *more, before)
        return output[0] if isinstance(output, tuple) else output

    with torch.no_grad():
        expected, alone = with_prefix(), block(x)
        alone = alone[0] if isinstance(alone, tuple) else alone
        assert (expected - alone).abs().max() > 1e-2
        for config in ("auto", "last-layer-keys"):
            with fast_parts(found.encoder, CONFIGS[config], CPU):
                torch.testing.assert_close(with_prefix(), expected, rtol=1e-5, atol=1e-5)
                ours = block(x)
                torch.testing.assert_close(ours[0] if isinstance(ours, tuple) else ours, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_texts_neighbours_do_not_matter(family):
    """Padding: a text alone, and beside a longer one."""
    found = shared(family, "lora")
    inputs = batch(found.encoder, (7, 40))
    with fast_parts(found.encoder, CONFIGS["auto"], CPU), torch.no_grad():
        beside = found.model(**inputs).logits[0]
        alone = found.model(input_ids=inputs["input_ids"][:1, :7]).logits[0]
    np.testing.assert_allclose(beside, alone, rtol=1e-5, atol=2e-5)
