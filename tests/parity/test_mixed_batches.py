"""Models of one encoder in one pass against each of them alone."""

import itertools

import pytest
import torch

from feathertune.engine.fast_path import fast_parts
from feathertune.engine.kernels.linear import Arithmetic
from feathertune.engine.kernels.matrix import Matrices
from feathertune.engine.kernels.multi_model_layers import ModelRows, combine_layers
from feathertune.engine.multi_adapter.mixed_batches import TOLERANCE, as_mixable, check_mixed, mixed_logits
from feathertune.engine.multi_adapter.shared_tensors import SharedTensors
from feathertune.methods import METHODS
from whole import BF16, CONFIGS, CPU, OTHERS, POST_NORM, Prepared, batch, prepared

# Shares of the largest logit. One product over more rows adds in another order: rounding of fp32.
OF_LARGEST = 1e-5
SIZES = (3, 1, 2)
ROWS = (slice(0, 3), slice(3, 4), slice(4, 6))
LENGTHS = [(9, 4, 9, 1, 12, 12), (7, 7, 7, 7, 7, 7), (40, 3, 12, 45, 33, 2)]


def moved(found, seed):
    """Another model of the same method: what is trained is somewhere else."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in found.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return found


def on_one_encoder(family, cases, stack, runtime=CPU, config="auto"):
    """Models that share tensors, each with the fast parts in."""
    tensors, matrices = SharedTensors(), Matrices()
    members = []
    for seed, case in enumerate(cases):
        found = moved(prepared(family, case), seed)
        found.model.requires_grad_(False).eval()
        tensors.share(found.model)
        installed = stack.enter_context(fast_parts(found.encoder, CONFIGS[config], runtime, matrices=matrices))
        members.append(as_mixable(found.encoder, found.model, installed))
    return members


@pytest.fixture
def stack():
    import contextlib

    with contextlib.ExitStack() as stack:
        yield stack


def rows_of(inputs, rows):
    return {name: tensor[rows] for name, tensor in inputs.items()}


@pytest.mark.parametrize("config", ["auto", "last-layer-keys", "linear-off"])
@pytest.mark.parametrize("cases", [("lora", "lora", "lora"), ("lora", "lora-query-value", "shira")], ids="-".join)
@pytest.mark.parametrize("family", [*POST_NORM, "mpnet", "llama"])
def test_a_mixed_pass_is_each_model_alone(family, cases, config, stack):
    members = on_one_encoder(family, cases, stack, config=config)
    assert len({member.group_key for member in members}) == 1
    for lengths in LENGTHS:
        inputs = batch(members[0].encoder, lengths)
        with torch.inference_mode():
            found = mixed_logits(members, inputs, SIZES)
            alone = [m.model(**rows_of(inputs, rows)).logits for m, rows in zip(members, ROWS, strict=True)]
            swapped = members[1].model(**rows_of(inputs, ROWS[0])).logits
        assert [len(logits) for logits in found] == list(SIZES)
        assert (swapped - alone[0]).abs().max() > 1e-2, "else rows could be mixed up unseen"
        for ours, expected in zip(found, alone, strict=True):
            torch.testing.assert_close(ours, expected, rtol=0, atol=OF_LARGEST * max(1.0, expected.abs().max().item()))


def test_the_leader_does_not_matter_and_stays_as_it_was(stack):
    members = on_one_encoder("bert", ("lora", "shira", "lora-query-value"), stack)
    inputs = batch(members[0].encoder, (9, 5, 3))
    forwards = [block.forward for member in members for block in member.encoder.blocks]
    answers = []
    with torch.inference_mode():
        for order in itertools.permutations(range(3)):
            found = mixed_logits([members[i] for i in order], rows_of(inputs, list(order)), (1, 1, 1))
            answers.append(torch.cat([found[order.index(i)] for i in range(3)]))
    assert [block.forward for member in members for block in member.encoder.blocks] == forwards
    for other in answers[1:]:
        torch.testing.assert_close(other, answers[0], rtol=0, atol=1e-5)


def test_bf16_is_as_near_as_its_digits(stack):
    members = on_one_encoder("bert", ("lora", "shira", "lora-query-value"), stack, runtime=BF16)
    for lengths in LENGTHS:
        inputs = batch(members[0].encoder, lengths)
        with torch.inference_mode(), BF16.autocast():
            found = mixed_logits(members, inputs, SIZES)
            alone = [m.model(**rows_of(inputs, rows)).logits for m, rows in zip(members, ROWS, strict=True)]
        for ours, expected in zip(found, alone, strict=True):
            bound = TOLERANCE[torch.bfloat16] * max(1.0, expected.abs().max().item())
            torch.testing.assert_close(ours, expected, rtol=0, atol=bound)


def test_one_product_where_the_weight_is_shared(stack):
    """Counted, since equal answers alone do not show it."""
    members = on_one_encoder("bert", ("lora", "lora", "lora"), stack)
    calls = []
    matrix = members[0].blocks[0]._qkv.matrix
    assert all(member.blocks[0]._qkv.matrix is matrix for member in members)
    forward = matrix.forward
    matrix.forward = lambda x, bias: calls.append(len(x)) or forward(x, bias)
    with torch.inference_mode():
        mixed_logits(members, batch(members[0].encoder, (9, 9, 9, 9, 9, 9)), SIZES)
    assert calls == [6 * 9]


def test_biases_of_their_own_are_added_to_their_rows():
    linear = torch.nn.Linear(4, 3).requires_grad_(False)
    other = torch.nn.Linear(4, 3).requires_grad_(False)
    other.weight = linear.weight
    matrices = Matrices()
    layers = [Arithmetic(torch.float32, matrices=matrices).join([one]) for one in (linear, other)]
    x = torch.randn(5, 4)
    found, _ = combine_layers(layers, ModelRows((2, 3))).forward(x)
    torch.testing.assert_close(found, torch.cat([linear(x[:2]), other(x[2:])]))
    with pytest.raises(RuntimeError, match="no gradient"):
        combine_layers(layers, ModelRows((2, 3))).backward(found, None, wants_x=True)


@pytest.mark.parametrize("family", OTHERS)
def test_families_with_blocks_of_their_own_stay_alone(family, stack):
    (why,) = on_one_encoder(family, ("lora",), stack)
    assert why == f"{members_type(family)} models run transformers' blocks, not the engine's"


def members_type(family):
    return prepared(family, "lora").encoder.spec.model_type


def test_whole_models_are_no_kin_and_inputs_of_their_own_stay_alone(stack):
    lora, full = on_one_encoder("bert", ("lora", "full"), stack)
    assert lora.group_key != full.group_key
    found = prepared("bert", "lora")
    found = Prepared(found.encoder, torch.nn.ModuleList([found.model, torch.nn.Linear(2, 2)]))
    installed = stack.enter_context(fast_parts(found.encoder, CONFIGS["auto"], CPU))
    assert "outside the encoder" in as_mixable(found.encoder, found.model, installed)
    off = prepared("bert", "lora")
    installed = stack.enter_context(fast_parts(off.encoder, CONFIGS["last-layer-off"], CPU))
    assert "not reduced to the token" in as_mixable(off.encoder, off.model, installed)
    assert METHODS["full"].kind == "full"


def test_the_check_sees_rows_that_are_mixed_up(stack, monkeypatch):
    members = on_one_encoder("bert", ("lora", "shira"), stack)
    inputs = batch(members[0].encoder, (9, 5, 3, 7))
    assert check_mixed(members, inputs, CPU) == ""
    slices = ModelRows.slices
    monkeypatch.setattr(ModelRows, "slices", lambda self, n: slices(self, n)[::-1] if n > 4 else slices(self, n))
    assert "its logits differ" in check_mixed(members, inputs, CPU)
    monkeypatch.setattr("feathertune.engine.multi_adapter.mixed_batches.block_forward", lambda *_, **__: 1 / len([]))
    with pytest.raises(ZeroDivisionError):
        check_mixed(members, inputs, CPU)
    monkeypatch.setattr("feathertune.engine.multi_adapter.mixed_batches.block_forward", lambda module, block: None)
    assert "cannot run in a batch with other models" in check_mixed(members, inputs, CPU)
