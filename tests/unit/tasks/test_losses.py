"""Weighted losses compared with slow ones in float64 and those of torch and scikit-learn; their use."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.nn import functional

from feathertune.baselines import BASELINES
from feathertune.baselines.word_model import CountedWords
from feathertune.config import TrainConfig
from feathertune.data.tokens.encode import EncodedTexts, Padding
from feathertune.encoders.classifier_head import head_logits
from feathertune.engine.training.distributed import ALONE
from feathertune.engine.training.gradient import Labelled, add_gradient
from feathertune.engine.training.head import fit_head
from feathertune.engine.training.loop import Recipe, StepInfo, Training
from feathertune.errors import ConfigError
from feathertune.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from feathertune.tasks.linear_models import Rows
from feathertune.tasks.losses import CROSS_ENTROPY, Objective, check_fits, objective_of, what_stays
from unit.engine.training.test_gradient import PASSES, Bag, labelled
from whole import CPU, prepared

WEIGHTS = (0.4, 2.5, 1.0)


def slow_loss(logits, labels, weights):
    """The sum over texts, decision by decision, as the papers write it."""
    weights = np.ones(logits.shape[1]) if weights is None else np.array(weights)
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        if labels.ndim == 1:
            p = (np.exp(row) / np.exp(row).sum())[label]
            total += -weights[label] * np.log(p)
            continue
        for c, has in enumerate(label):
            p = 1 / (1 + np.exp(-row[c]))
            p_of_truth = p if has else 1 - p
            weight = weights[c] if has else 1.0
            total += -weight * np.log(p_of_truth) / logits.shape[1]
    return total


def slow_gradient(logits, *given, step=1e-6):
    found = np.zeros_like(logits)
    for place in np.ndindex(logits.shape):
        up, down = logits.copy(), logits.copy()
        up[place] += step
        down[place] -= step
        found[place] = (slow_loss(up, *given) - slow_loss(down, *given)) / (2 * step)
    return found


@pytest.mark.parametrize("several", [False, True], ids=["one label", "several labels"])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_is_what_the_papers_say_with_all_gradients(several, weights):
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2.0, size=(6, 3))
    labels = rng.integers(0, 2, (6, 3)) if several else np.array([0, 1, 2, 1, 1, 0])
    given = torch.tensor(logits, requires_grad=True)
    loss = Objective(weights).loss(given, torch.from_numpy(labels))
    loss.backward()
    assert loss.item() == pytest.approx(slow_loss(logits, labels, weights), rel=1e-12)
    expected = slow_gradient(logits, labels, weights)
    np.testing.assert_allclose(given.grad.numpy(), expected, rtol=1e-6, atol=1e-8)


def test_nothing_asked_for_is_the_loss_of_before_to_the_bit():
    torch.manual_seed(0)
    logits, labels = torch.randn(64, 5), torch.randint(0, 5, (64,))
    sets = (torch.rand(64, 5) < 0.3).to(torch.int8)
    assert objective_of(TrainConfig(), labels.numpy(), 5) == CROSS_ENTROPY == Objective()
    assert torch.equal(CROSS_ENTROPY.loss(logits, labels), functional.cross_entropy(logits, labels, reduction="sum"))
    several = functional.binary_cross_entropy_with_logits(logits, sets.float(), reduction="sum") / 5
    assert torch.equal(CROSS_ENTROPY.loss(logits, sets), several)


def test_weights_are_those_of_torch_and_scikit_learn():
    torch.manual_seed(0)
    logits, labels = torch.randn(50, 4), torch.from_numpy(np.repeat([0, 1, 3], [35, 10, 5]))  # nobody is a 2
    objective = objective_of(TrainConfig(class_weights="balanced"), labels.numpy(), 4)
    present = np.array([0, 1, 3])
    expected = np.ones(4)
    expected[present] = compute_class_weight("balanced", classes=present, y=labels.numpy())
    np.testing.assert_allclose(objective.weights, expected)
    plain = nn.CrossEntropyLoss(weight=torch.tensor(expected, dtype=torch.float32), reduction="sum")
    assert torch.equal(objective.loss(logits, labels), plain(logits, labels))
    assert np.mean(expected[labels.numpy()]) == pytest.approx(1), "a step's loss keeps its size"

    sets = (torch.rand(50, 4) < torch.tensor([0.5, 0.1, 0.0, 1.1])).to(torch.int8)  # one that nobody has, and all
    objective = objective_of(TrainConfig(class_weights="balanced"), sets.numpy(), 4)
    with_it = sets[:, :2].sum(dim=0)
    expected = torch.cat([(50 - with_it) / with_it, torch.ones(2)])
    np.testing.assert_allclose(objective.weights, expected, rtol=1e-6)
    plain = nn.BCEWithLogitsLoss(pos_weight=expected, reduction="sum")
    torch.testing.assert_close(objective.loss(logits, sets), plain(logits, sets.float()) / 4)


def test_balanced_weights_are_best_where_classes_are_equally_frequent():
    """The gradient is zero at the logits of the same texts in a world of equally frequent classes."""
    counts = np.array([[60, 3, 1], [30, 2, 4]])  # rows of two texts, by class
    texts, labels = (np.repeat(axis, counts.ravel()) for axis in np.indices(counts.shape).reshape(2, -1))
    objective = objective_of(TrainConfig(class_weights="balanced"), labels, 3)
    equal = np.log(counts / counts.sum(axis=0))
    logits = torch.tensor(equal, requires_grad=True)
    objective.loss(logits[torch.from_numpy(texts)], torch.from_numpy(labels)).backward()
    np.testing.assert_allclose(logits.grad.numpy(), 0, atol=1e-9)
    plain = torch.tensor(equal, requires_grad=True)
    CROSS_ENTROPY.loss(plain[torch.from_numpy(texts)], torch.from_numpy(labels)).backward()
    assert plain.grad.abs().max() > 1


def test_a_class_without_rows_is_learned_never_to_be_given():
    labels = np.array([0] * 20 + [1] * 2)
    logits = torch.zeros(22, 3, requires_grad=True)
    objective_of(TrainConfig(class_weights="balanced"), labels, 3).loss(logits, torch.from_numpy(labels)).backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[:, 2] > 0).all()


def test_a_step_is_the_same_however_it_is_cut():
    """The sum is divided by the number of texts: by the sum of weights, each pass would have a measure of its own."""
    objective = Objective(weights=(0.2, 4.0))
    data = labelled()
    data = Labelled(data.texts, data.labels, objective)
    found = []
    for passes, halvings in ((PASSES, 0), ([np.concatenate(PASSES)], 0), (PASSES, 1)):
        model = Bag().double()
        loss, _ = add_gradient(
            model, list(model.parameters()), data, passes, halvings=halvings, runtime=CPU, group=ALONE
        )
        found.append((loss, {name: p.grad for name, p in model.named_parameters()}))
    rows = np.concatenate(PASSES)
    model = Bag().double()
    logits = model(**data.texts.collate(rows, CPU.device)).logits
    assert found[0][0] == pytest.approx(
        slow_loss(logits.detach().numpy(), data.labels[rows], objective.weights) / len(rows), rel=1e-5
    )
    for loss, gradients in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-6)
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, found[0][1][name], rtol=1e-5, atol=1e-7, msg=name)


def unbalanced(n=60):
    rng = np.random.default_rng(2)
    labels = (np.arange(n) % 10 == 0).astype(np.int64)
    rows = [rng.integers(1, 15, rng.integers(3, 9)) + 14 * label for label in labels]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    texts = EncodedTexts(np.concatenate(rows).astype(np.int32), offsets, n_truncated=0, padding=Padding())
    return Labelled(texts, labels, objective_of(TrainConfig(class_weights="balanced"), labels, 2))


def test_a_weighted_training_goes_on_to_the_same_bits():
    data = unbalanced()

    def training():
        settings = TrainConfig(epochs=3, batch_size=8, patience=3, class_weights="balanced")
        task = SINGLE_LABEL.deciding("moved")
        return Training(Bag(), data, data, Recipe(settings, learning_rate=0.05, seed=1, task=task), runtime=CPU)

    whole = training()
    losses = [event.loss for event in whole.events() if isinstance(event, StepInfo)]
    assert len(losses) == 3 * 8, "an epoch has as many steps as without"
    stopped = training()
    events = stopped.events()
    while stopped.position.steps_done < 11:
        next(events)
    again = training()
    again.load_state(stopped.state())
    assert [event.loss for event in again.events() if isinstance(event, StepInfo)] == losses[11:]
    for (name, found), expected in zip(again.model.named_parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(found, expected), name
    plain = Labelled(data.texts, data.labels)
    unweighted = Training(
        Bag(), plain, plain, Recipe(TrainConfig(epochs=1, batch_size=8), learning_rate=0.05, seed=1), runtime=CPU
    )
    assert next(iter(unweighted.events())).loss != losses[0]


def test_the_head_is_fitted_with_the_same_objective():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [540, 40, 20])
    read = 2 * rng.standard_normal((600, 32)).astype(np.float32)
    read[np.arange(600), labels] += 3.0

    def given(**how):
        encoder = prepared("bert", "full").encoder
        torch.manual_seed(0)
        fit_head(encoder, read, labels, seed=0, **how)
        with torch.no_grad():
            return np.bincount(head_logits(encoder, torch.from_numpy(read)).argmax(dim=1).numpy(), minlength=3)

    plain = given()
    assert np.array_equal(given(objective=CROSS_ENTROPY), plain)
    weighted = given(objective=objective_of(TrainConfig(class_weights="balanced"), labels, 3))
    assert weighted[1:].sum() > plain[1:].sum() + 20


def test_baselines_take_the_weights():
    texts = ["good film", "fine film", "good plot", "bad film", "a film", "the plot"] * 5
    labels = np.array([0, 0, 0, 2, 0, 0] * 5)
    found = BASELINES["tfidf"].fit(Rows(texts, labels, texts, labels, 4, SINGLE_LABEL, "balanced"))
    assert found.chosen["class_weight"] == "balanced"
    assert "class_weight" not in BASELINES["tfidf"].fit(Rows(texts, labels, texts, labels, 4, SINGLE_LABEL)).chosen
    _, train = CountedWords.fit(texts)
    expected = LogisticRegression(C=found.chosen["C"], class_weight="balanced", max_iter=2_000).fit(train, labels)
    np.testing.assert_allclose(found.predict_proba(texts)[:, [0, 2]], expected.predict_proba(train))
    sets = np.stack([labels == 2, labels == 0, np.zeros(30, bool)], axis=1).astype(np.int8)
    several = BASELINES["tfidf"].fit(Rows(texts, sets, texts, sets, 3, MULTI_LABEL, "balanced")).predict_proba(texts)
    np.testing.assert_allclose(several[:, 0], 1 - several[:, 1], atol=1e-6)
    assert (several[:, 2] == 0).all()


def test_several_labels_have_thresholds_already():
    with pytest.raises(ConfigError, match=r"train\.decision is moved, but a text may have several labels"):
        check_fits(TrainConfig(decision="moved"), MULTI_LABEL)
    check_fits(TrainConfig(class_weights="balanced"), MULTI_LABEL)
    check_fits(TrainConfig(class_weights="balanced", decision="moved"), SINGLE_LABEL)


def test_classes_too_rare_to_be_moved_are_named():
    labels = np.repeat([0, 1, 2], [20, 3, 2])
    names = ("usual", "rare", "rarest", "none")
    assert what_stays(TrainConfig(), labels, names) == []
    (said,) = what_stays(TrainConfig(decision="moved"), labels, names)
    assert "not moved for rarest, none:" in said
    assert "fewer than 3 validation rows" in said
    assert what_stays(TrainConfig(decision="moved"), labels[:23], names[:2]) == []


def test_numbers_are_trained_by_the_squared_error_of_standard_scores():
    numbers = np.array([1950.0, 1987.5, 2003.0, 1999.25])
    objective = objective_of(TrainConfig(), numbers, 1)
    assert objective.standard == pytest.approx((numbers.mean(), numbers.std()))
    logits = torch.randn(4, 1, requires_grad=True, generator=torch.Generator().manual_seed(0))
    loss = objective.loss(logits, torch.from_numpy(numbers))
    standard = torch.from_numpy(StandardScaler().fit_transform(numbers[:, None])).float()
    torch.testing.assert_close(loss, nn.MSELoss(reduction="sum")(logits, standard))
    loss.backward()
    torch.testing.assert_close(logits.grad, 2 * (logits.detach() - standard))
    np.testing.assert_allclose(objective.in_unit(standard.numpy())[:, 0], numbers, rtol=1e-6)
    assert objective_of(TrainConfig(), np.array([3.0, 3.0]), 1).standard == (3.0, 1.0)


def test_settings_of_classes_are_refused_of_numbers():
    check_fits(TrainConfig(), REGRESSION)
    for name, value in (("class_weights", "balanced"), ("decision", "moved")):
        with pytest.raises(ConfigError, match=f"train.{name} is {value}, which applies to classes"):
            check_fits(TrainConfig(**{name: value}), REGRESSION)
