"""Losses for unbalanced classes beside slow ones in float64 and those of torch and scikit-learn; how they are used."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.nn import functional

from feathertune.baselines import BASELINES
from feathertune.baselines.linear import CountedWords, Rows
from feathertune.config import TrainConfig, load_config
from feathertune.data.tokens.encode import EncodedTexts
from feathertune.engine.training.distributed import ALONE
from feathertune.engine.training.gradient import Labelled, add_gradient
from feathertune.engine.training.head import fit_head, head_logits
from feathertune.engine.training.loop import StepInfo, Training
from feathertune.errors import ConfigError
from feathertune.study.planning.plan import make_plan
from feathertune.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from feathertune.tasks.losses import CROSS_ENTROPY, Objective, check_fits, objective_of, what_stays
from unit.engine.training.test_gradient import PASSES, Bag, labelled
from whole import CPU, prepared

WEIGHTS, ADJUSTMENT = (0.4, 2.5, 1.0), (-0.3, -2.0, 0.0)
KINDS = list(itertools.product([None, WEIGHTS], [None, ADJUSTMENT], [None, 0.0, 0.5, 2.0]))


def slow_loss(logits, labels, weights, adjustment, gamma):
    """The sum over texts, decision by decision, as the papers write it."""
    z = logits + (0.0 if adjustment is None else np.array(adjustment))
    weights = np.ones(z.shape[1]) if weights is None else np.array(weights)
    total = 0.0
    for row, label in zip(z, labels, strict=True):
        if labels.ndim == 1:
            p = (np.exp(row) / np.exp(row).sum())[label]
            total += -weights[label] * (1 - p) ** (gamma or 0.0) * np.log(p)
            continue
        for c, has in enumerate(label):
            p = 1 / (1 + np.exp(-row[c]))
            p_of_truth = p if has else 1 - p
            weight = weights[c] if has else 1.0
            total += -weight * (1 - p_of_truth) ** (gamma or 0.0) * np.log(p_of_truth) / z.shape[1]
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
@pytest.mark.parametrize(("weights", "adjustment", "gamma"), KINDS)
def test_is_what_the_papers_say_with_all_gradients(several, weights, adjustment, gamma):
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2.0, size=(6, 3))
    labels = rng.integers(0, 2, (6, 3)) if several else np.array([0, 1, 2, 1, 1, 0])
    given = torch.tensor(logits, requires_grad=True)
    loss = Objective(weights, adjustment, gamma).loss(given, torch.from_numpy(labels))
    loss.backward()
    assert loss.item() == pytest.approx(slow_loss(logits, labels, weights, adjustment, gamma), rel=1e-12)
    expected = slow_gradient(logits, labels, weights, adjustment, gamma)
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


@pytest.mark.parametrize("settings", [{"loss": "logit-adjusted"}, {"class_weights": "balanced"}])
def test_what_makes_up_for_shares_is_best_where_classes_are_equally_frequent(settings):
    """The gradient is zero at the logits of the same texts in a world of equally frequent classes."""
    counts = np.array([[60, 3, 1], [30, 2, 4]])  # rows of two texts, by class
    texts, labels = (np.repeat(axis, counts.ravel()) for axis in np.indices(counts.shape).reshape(2, -1))
    objective = objective_of(TrainConfig(**settings), labels, 3)
    equal = np.log(counts / counts.sum(axis=0))
    logits = torch.tensor(equal, requires_grad=True)
    objective.loss(logits[torch.from_numpy(texts)], torch.from_numpy(labels)).backward()
    np.testing.assert_allclose(logits.grad.numpy(), 0, atol=1e-9)
    plain = torch.tensor(equal, requires_grad=True)
    CROSS_ENTROPY.loss(plain[torch.from_numpy(texts)], torch.from_numpy(labels)).backward()
    assert plain.grad.abs().max() > 1


def test_tau_and_labels_by_themselves():
    labels = np.array([0] * 90 + [1] * 10)
    adjusted = objective_of(TrainConfig(loss="logit-adjusted", logit_adjustment_tau=0.5), labels, 3)
    np.testing.assert_allclose(adjusted.adjustment, [0.5 * np.log(0.9), 0.5 * np.log(0.1), 0.0])
    sets = np.stack([labels, 1 - labels, np.zeros(100, int), np.ones(100, int)], axis=1)
    adjusted = objective_of(TrainConfig(loss="logit-adjusted"), sets, 4)
    np.testing.assert_allclose(adjusted.adjustment, [-np.log(9), np.log(9), 0, 0], atol=1e-12)


@pytest.mark.parametrize("settings", [{"loss": "logit-adjusted"}, {"class_weights": "balanced"}, {"loss": "focal"}])
def test_a_class_without_rows_is_learned_never_to_be_given(settings):
    labels = np.array([0] * 20 + [1] * 2)
    logits = torch.zeros(22, 3, requires_grad=True)
    objective_of(TrainConfig(**settings), labels, 3).loss(logits, torch.from_numpy(labels)).backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[:, 2] > 0).all()


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_a_model_that_is_sure_has_a_finite_gradient(gamma):
    logits = torch.tensor([[200.0, 0.0], [-200.0, 0.0], [30.0, 0.0]], requires_grad=True)
    for labels in (torch.tensor([0, 0, 0]), torch.tensor([[1, 0], [1, 0], [1, 0]])):
        logits.grad = None
        Objective(gamma=gamma).loss(logits, labels).backward()
        assert torch.isfinite(logits.grad).all()
        assert logits.grad[1, 0] < -0.4


def test_a_step_is_the_same_however_it_is_cut():
    """The sum is divided by the number of texts: by the sum of weights, each pass would have a measure of its own."""
    objective = Objective(weights=(0.2, 4.0), gamma=1.5)
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
        slow_loss(logits.detach().numpy(), data.labels[rows], objective.weights, None, 1.5) / len(rows), rel=1e-5
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
    texts = EncodedTexts(np.concatenate(rows).astype(np.int32), offsets, n_truncated=0, pad_id=0)
    return Labelled(texts, labels, objective_of(TrainConfig(loss="focal"), labels, 2))


def test_a_training_that_draws_its_rows_goes_on_to_the_same_bits():
    data = unbalanced()

    def training():
        settings = TrainConfig(epochs=3, batch_size=8, patience=3, sampling="balanced")
        task = SINGLE_LABEL.deciding("moved")
        return Training(Bag(), data, data, settings=settings, learning_rate=0.05, seed=1, runtime=CPU, task=task)

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
    plain = Training(
        Bag(), data, data, settings=TrainConfig(epochs=1, batch_size=8), learning_rate=0.05, seed=1, runtime=CPU
    )
    assert next(iter(plain.events())).loss != losses[0]


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
    shares = 1 / (3 * np.bincount(labels)[labels])
    for how in ({"objective": objective_of(TrainConfig(class_weights="balanced"), labels, 3)}, {"shares": shares}):
        assert given(**how)[1:].sum() > plain[1:].sum() + 20, how


def test_baselines_take_the_weights():
    texts = ["good film", "fine film", "good plot", "bad film", "a film", "the plot"] * 5
    labels = np.array([0, 0, 0, 2, 0, 0] * 5)

    def fit(labels, task, class_weights="balanced"):
        rows = Rows(texts, labels, texts, labels, 4 if labels.ndim == 1 else 3, task, class_weights)
        return BASELINES["tfidf"].fit(rows)

    found = fit(labels, SINGLE_LABEL)
    assert found.chosen["class_weight"] == "balanced"
    assert "class_weight" not in fit(labels, SINGLE_LABEL, "none").chosen
    words = CountedWords(texts)
    expected = LogisticRegression(C=found.chosen["C"], class_weight="balanced", max_iter=2_000).fit(words.train, labels)
    np.testing.assert_allclose(found.predict_proba(texts)[:, [0, 2]], expected.predict_proba(words.train))
    sets = np.stack([labels == 2, labels == 0, np.zeros(30, bool)], axis=1).astype(np.int8)
    several = fit(sets, MULTI_LABEL).predict_proba(texts)
    np.testing.assert_allclose(several[:, 0], 1 - several[:, 1], atol=1e-6)
    assert (several[:, 2] == 0).all()


def test_what_makes_up_twice_is_refused():
    with pytest.raises(ConfigError, match="class_weights balanced and sampling balanced each make up for rare classes"):
        load_config(assignments=["train.class_weights=balanced", "train.sampling=balanced"])
    with pytest.raises(ConfigError, match="loss logit-adjusted and sampling balanced each"):
        load_config(assignments=["train.loss=logit-adjusted", "train.sampling=balanced"])
    with pytest.raises(ConfigError, match=r"train\.loss.*'focal'"):
        load_config(assignments=["train.loss=focl"])
    load_config(assignments=["train.loss=focal", "train.class_weights=balanced", "train.decision=moved"])


def test_several_labels_are_not_drawn_and_have_thresholds_already():
    with pytest.raises(ConfigError, match=r"train\.sampling is balanced, but a text may have several labels"):
        check_fits(TrainConfig(sampling="balanced"), MULTI_LABEL)
    with pytest.raises(ConfigError, match=r"train\.decision is moved, but a text may have several labels"):
        check_fits(TrainConfig(decision="moved"), MULTI_LABEL)
    check_fits(TrainConfig(class_weights="balanced", loss="focal"), MULTI_LABEL)
    check_fits(TrainConfig(sampling="balanced", decision="moved"), SINGLE_LABEL)


def test_classes_too_rare_to_be_moved_are_named():
    labels = np.repeat([0, 1, 2], [20, 3, 2])
    names = ("usual", "rare", "rarest", "none")
    assert what_stays(TrainConfig(), labels, names) == []
    (said,) = what_stays(TrainConfig(decision="moved"), labels, names)
    assert said.startswith("The decision is not moved for rarest, none: fewer than 3 validation rows")
    assert what_stays(TrainConfig(decision="moved"), labels[:23], names[:2]) == []


def test_what_is_not_asked_for_is_not_in_a_record_nor_in_a_plan():
    assert not TrainConfig().said().keys() & {
        "loss",
        "class_weights",
        "sampling",
        "decision",
        "focal_gamma",
        "logit_adjustment_tau",
    }
    focal = TrainConfig(loss="focal", logit_adjustment_tau=3.0).said(exclude=("epochs",))
    assert (focal["loss"], focal["focal_gamma"], "epochs" in focal) == ("focal", 2.0, False)
    assert "logit_adjustment_tau" not in focal

    def fingerprint(*assignments):
        config = load_config(assignments=["study.methods=[lora]", *assignments])
        return make_plan(config, data_fingerprint="d", base_fingerprint="b").fingerprint

    assert fingerprint() == fingerprint("train.focal_gamma=3.0"), "it means nothing without the loss"
    different = ("train.loss=focal", "train.class_weights=balanced", "train.sampling=balanced", "train.decision=moved")
    assert len({fingerprint(), *map(fingerprint, different)}) == 5


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
    for name, value in (
        ("class_weights", "balanced"),
        ("loss", "focal"),
        ("loss", "logit-adjusted"),
        ("sampling", "balanced"),
        ("decision", "moved"),
    ):
        with pytest.raises(ConfigError, match=f"train.{name} is {value}, which is about classes"):
            check_fits(TrainConfig(**{name: value}), REGRESSION)
