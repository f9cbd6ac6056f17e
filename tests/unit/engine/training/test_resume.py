"""A training that was stopped and goes on elsewhere ends as one that was not stopped: the same bits."""

import itertools
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from feathertune.config import EngineConfig, TrainConfig
from feathertune.data.tokens.encode import encode
from feathertune.encoders import load_encoder
from feathertune.engine.fast_path import fast_parts
from feathertune.engine.training.checkpoint import Checkpoints
from feathertune.engine.training.gradient import Labelled
from feathertune.engine.training.loop import EpochInfo, StepInfo
from feathertune.engine.training.state import State
from feathertune.errors import CheckpointError, RunFailedError
from feathertune.methods import METHODS, Job
from feathertune.runtime import Runtime, seed_everything
from feathertune.study.running.prepare import ReadyModel, training_of
from feathertune.tasks.losses import CROSS_ENTROPY
from tiny import save_tiny_encoder

CPU = Runtime(torch.device("cpu"), "fp32", "eager", "test", {})
TEXTS = ["a great film", "the plot is bad", "it was great fun", "bad and not fun", "great", "very bad"] * 3
LABELS = np.array([1, 0, 1, 0, 1, 0] * 3, dtype=np.int64)
SETTINGS = TrainConfig(epochs=3, batch_size=7, token_budget=24, patience=3)
EVENTS_PER_EPOCH = 4
# Those that differ in what a training must remember: the first of the adapters stands for all that are trained alike.
DIFFERENT = [
    method
    for number, method in enumerate(METHODS)
    if number == 0 or method.kind == "full" or method.hook or method.rates(method.options())
]
# A method's own rate, times this: tiny encoders move by a step then, and the best epoch is not always the last.
RATE_FACTOR = 40


@pytest.fixture(autouse=True)
def one_thread():
    """Two threads gain nothing at this size, and wait for each other where the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder"), "bert")


@pytest.fixture(params=DIFFERENT, ids=lambda method: method.name)
def begin(request, folder):
    """A function that prepares the same training from the beginning."""
    method = request.param
    options = method.options()
    if "lora_dropout" in type(options).model_fields:
        options = options.model_copy(update={"lora_dropout": 0.2})

    def prepare(*, rate_factor=RATE_FACTOR, **settings):
        seed_everything(0)
        random.seed(0)
        encoder = load_encoder(str(folder), labels=("no", "yes"), seed=0, attention="eager")
        chosen = SETTINGS.model_copy(update=settings)
        job = Job(0, n_steps=chosen.epochs * (EVENTS_PER_EPOCH - 1))
        data = Labelled(encode(encoder.tokenizer, TEXTS, max_length=16), LABELS)
        faster = options.model_copy(update={"learning_rate": rate_factor * options.learning_rate})
        model = method.prepare(encoder, options, job)
        ready = ReadyModel(method, faster, job, encoder, model, CROSS_ENTROPY)
        training = training_of(ready, data, data, settings=chosen, runtime=CPU)
        return SimpleNamespace(encoder=encoder, training=training)

    return prepare


def values(event):
    """Everything of an event that is no time."""
    fields = {name: value for name, value in vars(event).items() if name != "seconds"}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in fields.items()}


def weights(training):
    return {name: value.detach().clone() for name, value in training.model.named_parameters()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def disturb():
    """Leave every global generator elsewhere, as another process would find it."""
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002
    random.seed(123)


def draw():
    """The next number of every global generator."""
    return torch.rand(1).item(), np.random.rand(), random.random()  # noqa: NPY002


@pytest.mark.parametrize(
    "fast", [pytest.param(False, id="plain", marks=pytest.mark.slow), pytest.param(True, id="fast")]
)
def test_stopped_after_any_step_the_end_is_the_same(begin, tmp_path, fast):
    config = EngineConfig() if fast else EngineConfig(blocks="off", linear="off", packed="off", last_layer="off")
    whole = begin()
    with fast_parts(whole.encoder, config, CPU):
        expected = [values(event) for event in whole.training.events()]
    last, best = weights(whole.training), whole.training.restore_best()
    restored = weights(whole.training)
    assert len(expected) == SETTINGS.epochs * EVENTS_PER_EPOCH
    drawn = draw()

    store = Checkpoints(tmp_path / "c", {}, every_s=0.0)
    stopped = begin()
    events = stopped.training.events()
    with fast_parts(stopped.encoder, config, CPU):
        for n in range(len(expected) + 1):
            if n:
                assert values(next(events)) == expected[n - 1], "a checkpoint does not disturb the training"
            store.write(stopped.training.state())
            kept = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002

            other = begin()
            disturb()
            with fast_parts(other.encoder, config, CPU):
                other.training.load_state(store.load())
                assert [values(event) for event in other.training.events()] == expected[n:]
            assert other.training.position.model_dump(exclude={"seconds"}) == (
                whole.training.position.model_dump(exclude={"seconds"})
            )
            assert_same(weights(other.training), last)
            assert values(other.training.restore_best()) == values(best)
            assert_same(weights(other.training), restored)
            assert draw() == drawn

            torch.set_rng_state(kept[0])
            np.random.set_state(kept[1])  # noqa: NPY002
            random.setstate(kept[2])


def test_the_test_can_fail(begin):
    """Without the state of the generators, the optimizer or the hook, the end is another one: dropout is on."""

    def end(change):
        stopped = begin()
        list(itertools.islice(stopped.training.events(), EVENTS_PER_EPOCH + 1))
        state = stopped.training.state()
        tensors = {group: {n: t.detach().clone() for n, t in named.items()} for group, named in state.tensors.items()}
        other = begin()
        disturb()
        change(tensors)
        other.training.load_state(State(tensors, state.values))
        list(other.training.events())
        return weights(other.training), bool(state.tensors["hook"])

    def other_draws(tensors):
        tensors["random"]["cpu"] = torch.get_rng_state()

    def no_optimizer(tensors):
        tensors["optimizer"] = {}

    def no_hook(tensors):
        tensors["hook"] = {}

    good, has_hook = end(lambda tensors: None)
    for change in (other_draws, no_optimizer, *([no_hook] if has_hook else [])):
        bad, _ = end(change)
        assert any(not torch.equal(bad[name], value) for name, value in good.items())


def test_patience_that_has_run_out_stays_so(begin):
    settings = {"rate_factor": 1e-30, "epochs": 9, "patience": 2}  # nothing moves, so nothing gets better
    run = begin(**settings).training
    list(run.events())
    assert run.position.epochs_done == 3
    other = begin(**settings).training
    other.load_state(run.state())
    assert list(other.events()) == []
    assert other.restore_best().epoch == run.best.epoch


def test_a_state_of_another_model_is_refused_and_changes_nothing(begin):
    run = begin().training
    next(run.events())
    state = run.state()
    parameters = dict(state.tensors["parameters"])
    name = next(iter(parameters))
    wrong = {
        "is not trained here": {**parameters, "more": torch.zeros(1)},
        "is missing from the checkpoint": {n: p for n, p in parameters.items() if n != name},
        r"has shape \[1, 1, 1\], expected": {**parameters, name: torch.zeros(1, 1, 1)},
    }
    other = begin().training
    before = weights(other)
    for message, found in wrong.items():
        with pytest.raises(CheckpointError, match=message):
            other.load_state(State({**state.tensors, "parameters": found}, state.values))
    assert_same(weights(other), before)
    assert other.position.steps_done == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_stops_before_the_step(begin, value):
    run = begin().training
    events = run.events()
    next(events)
    before, state = weights(run), run.state()
    optimizer = {name: tensor.clone() for name, tensor in state.tensors["optimizer"].items()}
    parameter = next(p for p in run.model.parameters() if p.requires_grad)
    parameter.register_hook(lambda gradient: torch.full_like(gradient, value))
    with pytest.raises(RunFailedError, match=r"The gradient norm is (nan|inf) at step 2 \(epoch 1\) with learning"):
        next(events)
    assert_same(weights(run), before)
    assert_same(dict(run.state().tensors["optimizer"]), optimizer)
    assert run.position.steps_done == 1


def test_a_resumed_training_knows_the_seconds_before(begin):
    run = begin().training
    events = [event for event in run.events() if isinstance(event, (StepInfo, EpochInfo))]
    epochs = [event for event in events if isinstance(event, EpochInfo)]
    assert run.position.seconds == pytest.approx(sum(event.seconds for event in epochs))
    assert run.position.seconds >= sum(event.seconds for event in events if isinstance(event, StepInfo))
