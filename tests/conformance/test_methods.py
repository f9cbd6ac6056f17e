"""What every method must do on every family of encoders; parametrised from the registry alone.

What is saved is in `test_bundles_of_methods`, what the engine computes in `test_engine_of_methods`.
"""

import itertools

import pytest
import torch

from feathertune.encoders import load_encoder
from feathertune.engine.training.loop import StepInfo
from feathertune.errors import ConfigError
from feathertune.methods import METHODS, sizes
from feathertune.methods.targets import TargetedOptions, shapes_of, target_names
from trained import LABELS, begin, one_thread, pairs, refused, trained
from whole import folder

pytestmark = pytest.mark.usefixtures(one_thread.__name__)


@pytest.fixture
def case(family, method):
    """A pair that has been trained."""
    if why := refused(family, method):
        pytest.skip(f"refused, which test_serves_an_encoder_or_says_why_not looks at: {why}")
    return trained(family, method)


@pairs()
def test_serves_an_encoder_or_says_why_not(family, method):
    if why := refused(family, method):
        with pytest.raises(ConfigError) as error:
            begin(family, method)
        for word in (f"'{method.name}'", str(folder(family)), why):
            assert word in str(error.value)
    else:
        assert trained(family, method).trained_names()


@pairs()
def test_the_loss_falls(case):
    assert all(torch.isfinite(torch.tensor(case.losses)))
    assert case.losses[-1] < case.losses[0]
    if not case.method.hook:  # which may add a penalty
        before = torch.nn.functional.cross_entropy(case.start, torch.from_numpy(case.data.labels))
        torch.testing.assert_close(before.item(), case.losses[0], rtol=1e-5, atol=1e-5)


@pairs()
def test_moves_what_it_says_and_nothing_else(case):
    planned, after = case.trained_names(), case.state()
    assert after.keys() == case.before.keys()
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, case.before[name])}
    assert moved <= planned, "parameters that are frozen, and buffers, stay"
    assert case.gradients <= moved
    assert case.head_names()
    assert case.head_names() <= moved
    # All weights of an encoder may hold some that no text uses; what is chosen or added must be of use.
    if case.method.kind == "peft":
        assert case.gradients == planned


@pairs()
def test_what_it_learned_is_more_than_a_head(case):
    """With the head as it was, the answers are others, unless nothing but the head is trained."""
    heads = case.head_names()
    assert (case.logits() - case.start).abs().max() > 1e-2
    after = case.state()
    parameters = dict(case.model.named_parameters())
    try:
        with torch.no_grad():
            for name in heads:
                parameters[name].copy_(case.before[name])
        difference = (case.logits() - case.start).abs().max().item()
    finally:
        with torch.no_grad():
            for name in heads:
                parameters[name].copy_(after[name])
    # A hundred times what rounding makes.
    assert difference > 1e-4 if case.trained_names() > heads else difference == 0


@pairs()
def test_begins_as_the_encoder_if_it_says_so(case):
    # Weights that are taken apart and put together again are rounded.
    difference = (case.start - case.foundation).abs().max().item()
    assert (difference <= 1e-5) == case.method.zero_init, difference


@pairs(others=False)
def test_the_seed_says_all(family, case):
    """Two trainings from one seed are the same bits, whatever was drawn before; another seed is another training."""

    def train(seed):
        torch.manual_seed(99)
        begun = begin(family, case.method, seed=seed)
        prepared = begun.state()
        events = begun.training().events()
        losses = [event.loss for event in itertools.islice(events, 3) if isinstance(event, StepInfo)]
        return {**prepared, **{f"trained {n}": t for n, t in begun.state().items()}, "losses": torch.tensor(losses)}

    first, again, other = train(0), train(0), train(1)
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    changed = {name for name, tensor in first.items() if not torch.equal(tensor, other[name])}
    assert "losses" in changed
    assert {f"trained {name}" for name in case.head_names()} & changed


@pairs()
def test_its_number_of_parameters_is_known_before(family, case):
    encoder = load_encoder(str(folder(family)), labels=LABELS, seed=0)
    names = set(dict(encoder.model.named_parameters()))
    _, planned = sizes.planned(case.method, case.options, encoder)
    expected = {name: p.shape for name, p in case.model.named_parameters() if p.requires_grad}
    n_expected = sum(shape.numel() for shape in expected.values())
    shapes = {name: p.shape for name, p in planned.named_parameters() if p.requires_grad}
    n_found = sizes.n_trained(case.method, case.options, encoder)
    if case.reads_data:  # it may share out among the layers, which are not of one width, what was planned for each
        assert shapes.keys() == expected.keys()
        assert abs(n_found - n_expected) <= 0.1 * n_expected
    else:
        assert shapes == expected
        assert n_found == n_expected
    assert sizes.n_head(encoder) == sum(expected[name].numel() for name in case.head_names())
    assert set(dict(encoder.model.named_parameters())) == names, "the encoder is left as it is"
    assert not any(parameter.is_meta for parameter in encoder.model.parameters())


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(method, id=method.name, marks=[pytest.mark.slow] if number % 4 else [])
        for number, method in enumerate(METHODS)
    ],
)
def test_can_be_made_as_large_as_another(method):
    """No size of the method comes nearer to a budget than the one that is found."""
    if refused("bert", method):
        pytest.skip("refused")
    encoder = load_encoder(str(folder("bert")), labels=LABELS, seed=0)
    options, head = method.options(), sizes.n_head(encoder)
    if method.size is None:
        assert sizes.matched(method, options, encoder, 1_000) == options
        return
    names = target_names(encoder, options) if isinstance(options, TargetedOptions) else encoder.linear_names()
    values = list(method.size.values(shapes_of(encoder, names)))

    def n_trained(value):
        sized = method.options.model_validate({**options.model_dump(), method.size.option: value})
        try:
            return sizes.n_trained(method, sized, encoder) - head
        except (ConfigError, ValueError):
            return None

    for budget in (1, 3_000, 10**9):
        chosen = sizes.matched(method, options, encoder, budget)
        changed = {name for name, value in chosen if value != getattr(options, name)}
        assert changed <= {method.size.option}
        index = values.index(getattr(chosen, method.size.option))
        distance = abs(n_trained(values[index]) - budget)
        others = [n_trained(value) for value in (*values[max(0, index - 1) : index], *values[index + 1 : index + 2])]
        assert all(distance <= abs(other - budget) for other in others if other is not None)


@pytest.mark.parametrize("method", METHODS, ids=METHODS.names())
def test_layers_of_odd_widths(method):
    """ConvBERT has one with nine outputs: a method works there, or says which option does not fit."""
    encoder = load_encoder(str(folder("convbert")), labels=LABELS, seed=0)
    try:
        sizes.planned(method, method.options(), encoder)
    except ConfigError as error:
        with pytest.raises(ConfigError, match=str(folder("convbert"))):
            begin("convbert", method)
        assert method.name in str(error) or "Option '" in str(error)  # noqa: PT017 - either is a result
        return
    begun = begin("convbert", method)
    adapted = begun.trained_names() - begun.head_names()
    parameters = dict(begun.model.named_parameters())
    start = begun.logits()
    with torch.no_grad():
        for name in adapted:
            parameters[name].add_(0.05 * torch.randn_like(parameters[name]))
    assert not adapted or (begun.logits() - start).abs().max() > 1e-3, "what it trains does something"


def test_every_row_says_what_it_is():
    for method in METHODS:
        assert method.summary.endswith(".")
        assert method.when.endswith(".")
        assert method.source
        assert set(method.search_space) <= set(method.options.model_fields), method.name
        assert method.size is None or method.size.option in method.options.model_fields
        for name, found in method.search_space.items():
            for value in found:
                method.options(**{name: value})
