"""The loop on a tiny model of its own: what it must do whatever the encoder."""

import copy
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from feathertune.config import TrainConfig
from feathertune.data.tokens.encode import EncodedTexts, Padding
from feathertune.engine.predict import predict_logits
from feathertune.engine.training.gradient import Labelled
from feathertune.engine.training.loop import EpochInfo, Recipe, StepInfo, Training
from feathertune.engine.training.optim import make_optimizer, rate_factor
from feathertune.errors import RunFailedError
from feathertune.records import Metrics
from feathertune.runtime import Runtime
from feathertune.tasks import SINGLE_LABEL, softmax

CPU = Runtime(torch.device("cpu"), "fp32", "eager", "test", {})


class Bag(nn.Module):
    """Mean of token vectors, then a linear head: enough to learn from tokens, and sensitive to padding mistakes."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.tokens = nn.Embedding(50, 8)
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.head = nn.Linear(8, 2)

    def forward(self, input_ids, attention_mask=None):
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        mask = mask.unsqueeze(-1).float()
        mean = (self.tokens(input_ids) * mask).sum(1) / mask.sum(1)
        return SimpleNamespace(logits=self.head(torch.tanh(self.frozen(mean))))


def texts(n, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    rows = [rng.integers(1, 25, rng.integers(3, 20)) + 25 * label for label in labels]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    ids = np.concatenate([np.zeros(0, np.int32), *rows]).astype(np.int32)
    encoded = EncodedTexts(ids, offsets.astype(np.int64), n_truncated=0, padding=Padding())
    return Labelled(encoded, labels.astype(np.int64))


def training(model, *, seed=0, learning_rate=0.05, task=None, **settings):
    return Training(
        model,
        texts(70, 1),
        texts(40, 2),
        Recipe(TrainConfig(**settings), learning_rate=learning_rate, seed=seed, task=task),
        runtime=CPU,
    )


@pytest.mark.parametrize(("metric", "best"), [("accuracy", 1), ("balanced_accuracy", 2)])
def test_the_best_epoch_is_chosen_by_the_primary_score(monkeypatch, metric, best):
    run = training(Bag(), epochs=2, task=SINGLE_LABEL.ranked_by(metric))
    rest = {"macro_f1": 0.5, "mcc": 0.0, "log_loss": 0.3, "ece": 0.0, "n": 40}
    found = iter([(0.95, 0.5), (0.9, 0.8)])

    def validate():
        accuracy, balanced = next(found)
        return Metrics(accuracy=accuracy, balanced_accuracy=balanced, **rest), np.zeros((40, 2))

    monkeypatch.setattr(run, "validate", validate)
    list(run.events())
    assert run.best.epoch == best


def steps(run):
    return [event for event in run.events() if isinstance(event, StepInfo)]


def test_learns_and_moves_exactly_what_is_trained():
    model = Bag()
    before = {name: p.clone() for name, p in model.named_parameters()}
    run = training(model, epochs=4)
    events = list(run.events())
    epochs = [e for e in events if isinstance(e, EpochInfo)]
    assert epochs[-1].train_loss < 0.5 * epochs[0].train_loss
    assert epochs[-1].validation.accuracy > 0.9
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == name.startswith("frozen"), name
    assert run.position.steps_done == 4 * 5
    assert run.position.examples_seen == 4 * 70


def test_the_token_budget_does_not_change_what_is_learned():
    states = []
    for token_budget in (16, 10_000):
        model = Bag().double()
        steps(training(model, epochs=2, token_budget=token_budget))
        states.append(model.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-6, atol=1e-8, msg=name)


def test_same_seed_same_bits_other_seed_other_order():
    def losses(seed):
        return [step.loss for step in steps(training(Bag(), seed=seed, epochs=2))]

    assert losses(0) == losses(0)
    assert losses(0) != losses(1)


def test_best_epoch_is_restored_and_patience_ends_the_training():
    run = training(Bag(), epochs=30, patience=2, learning_rate=3.0)
    kept = {}
    for event in run.events():
        if isinstance(event, EpochInfo):
            kept[event.epoch] = (event, {k: v.clone() for k, v in run.model.state_dict().items()})
    best = run.restore_best()
    assert run.position.epochs_done < 30
    assert run.position.epochs_done == best.epoch + 2
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, kept[best.epoch][1][name]), name
    assert best.validation.accuracy == max(event.validation.accuracy for event, _ in kept.values())
    logits = predict_logits(run.model, texts(40, 2).texts, token_budget=64, runtime=CPU)
    np.testing.assert_allclose(softmax(logits), best.validation_probabilities, atol=1e-6)


def without_validation(model, **settings):
    return Training(
        model, texts(20, 1), texts(0, 2), Recipe(TrainConfig(**settings), learning_rate=0.05, seed=0), runtime=CPU
    )


def test_without_validation_rows_the_last_state_is_kept_after_the_steps_that_were_asked_for():
    run = without_validation(Bag(), epochs=2, min_steps=15, patience=1)
    epochs = [event for event in run.events() if isinstance(event, EpochInfo)]
    assert (run.position.steps_done, len(epochs)) == (16, 8), "two steps an epoch: whole epochs, and no early stop"
    assert all(event.validation is None and len(event.validation_probabilities) == 0 for event in epochs)
    last = {name: value.clone() for name, value in run.model.state_dict().items()}
    assert run.restore_best().epoch == 8
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, last[name]), name
    assert len(steps(without_validation(Bag(), epochs=2))) == 4, "epochs alone"


def test_without_validation_rows_a_stopped_training_goes_on_to_the_same_bits():
    whole = without_validation(Bag(), epochs=3)
    list(whole.events())
    stopped = without_validation(Bag(), epochs=3)
    for _ in zip(range(4), stopped.events(), strict=False):
        pass
    state = copy.deepcopy(stopped.state())
    resumed = without_validation(Bag(), epochs=3)
    resumed.load_state(state)
    list(resumed.events())
    assert resumed.restore_best().epoch == 3
    for name, value in resumed.model.state_dict().items():
        if not name.startswith("frozen"):
            assert torch.equal(value, whole.model.state_dict()[name]), name


def test_a_loss_that_is_not_finite_stops_before_the_step():
    model = Bag()
    run = training(model, epochs=1)
    events = run.events()
    next(events)
    with torch.no_grad():
        model.head.bias[0] = float("nan")
    before = model.tokens.weight.clone()
    with pytest.raises(RunFailedError, match=r"The loss is nan at step 2 \(epoch 1\) with learning rate 0.05"):
        next(events)
    assert torch.equal(model.tokens.weight, before)


def test_predictions_come_in_input_order_whatever_the_batches():
    model, data = Bag(), texts(33, 5).texts
    together = predict_logits(model, data, token_budget=10_000, runtime=CPU)
    alone = predict_logits(model, data, token_budget=1, runtime=CPU)
    np.testing.assert_allclose(together, alone, atol=1e-6)
    for row in (0, 7, 32):
        ids = torch.tensor(data.ids[data.offsets[row] : data.offsets[row + 1]], dtype=torch.int64)[None]
        with torch.no_grad():
            expected = model(ids, torch.ones_like(ids)).logits[0].numpy()
        np.testing.assert_allclose(together[row], expected, atol=1e-6)
    assert not model.training


def test_rate_rises_then_falls_and_is_never_zero():
    factors = [rate_factor(step, n_steps=20, warmup_ratio=0.2) for step in range(1, 21)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0
    assert factors[-1] == pytest.approx(1 / 16)
    assert all(a > b for a, b in itertools.pairwise(factors[4:]))
    assert rate_factor(1, n_steps=1, warmup_ratio=0.06) == 1.0


def test_optimizer_decays_matrices_only_and_refuses_nothing():
    model = Bag()
    decayed, kept = make_optimizer(model, learning_rate=1e-3, weight_decay=0.1).param_groups
    assert {p.ndim for p in decayed["params"]} == {2}
    assert decayed["weight_decay"] == 0.1
    assert {p.ndim for p in kept["params"]} == {1}
    assert kept["weight_decay"] == 0.0
    with pytest.raises(ValueError, match="none of its parameters has requires_grad"):
        make_optimizer(model.requires_grad_(False), learning_rate=1e-3, weight_decay=0.1)
