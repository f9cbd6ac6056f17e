"""Thresholds that move the decision: as by a full search where there are two classes, near it where there are more."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from feathertune.tasks import MULTI_LABEL, SINGLE_LABEL
from feathertune.tasks.thresholds import fit_macro_f1_thresholds


def drawn(seed, n, n_classes):
    """Labels of unequal frequency, and probabilities that know something of them and of the frequencies."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(n_classes, 2.0))
    labels = rng.choice(n_classes, size=n, p=shares)
    logits = rng.normal(size=(n, n_classes)) + np.log(shares + 1e-3)
    logits[np.arange(n), labels] += 1.2
    odds = np.exp(logits)
    return labels, odds / odds.sum(axis=1, keepdims=True)


def macro_f1(labels, predicted, n_classes):
    return f1_score(labels, predicted, labels=range(n_classes), average="macro", zero_division=0)


def moved(labels, probabilities):
    return SINGLE_LABEL.decide(probabilities, fit_macro_f1_thresholds(labels, probabilities))


@pytest.mark.parametrize("seed", range(20))
def test_of_two_classes_no_cut_is_better(seed):
    labels, probabilities = drawn(seed, 40, 2)
    if np.bincount(labels, minlength=2).min() < 3:
        assert fit_macro_f1_thresholds(labels, probabilities) is None
        return
    cuts = [-1.0, *probabilities[:, 1]]
    best = max(macro_f1(labels, probabilities[:, 1] > cut, 2) for cut in cuts)
    assert macro_f1(labels, moved(labels, probabilities), 2) == pytest.approx(best, abs=1e-12)
    if (thresholds := fit_macro_f1_thresholds(labels, probabilities)) is not None:
        given = probabilities[:, 1] >= thresholds[1]
        np.testing.assert_array_equal(moved(labels, probabilities), given, "a threshold is a probability then")


def best_of_three(labels, probabilities):
    """The best macro F1 over a fine grid of the two weights that there are."""
    grid = np.exp(np.linspace(-4, 4, 81))
    weights = np.stack(np.broadcast_arrays(1.0, grid[:, None], grid[None, :]), axis=-1)
    predicted = (probabilities[:, None, None, :] * weights).argmax(axis=-1)
    scores = 0.0
    for label in range(3):
        given, has = predicted == label, (labels == label)[:, None, None]
        scores += 2 * (given & has).sum(axis=0) / np.maximum(given.sum(axis=0) + has.sum(), 1)
    return scores.max() / 3


def test_of_three_classes_nearly_always_the_best_of_a_full_search():
    gaps, gains = [], []
    for seed in range(24):
        labels, probabilities = drawn(seed, 25, 3)
        if np.bincount(labels, minlength=3).min() < 3:
            continue
        reached = macro_f1(labels, moved(labels, probabilities), 3)
        before = macro_f1(labels, probabilities.argmax(axis=1), 3)
        assert reached >= before - 1e-12
        gaps.append(best_of_three(labels, probabilities) - reached)
        gains.append(reached - before)
    assert len(gaps) >= 12
    assert np.mean(gains) > 0.05
    assert np.mean(np.array(gaps) < 1e-9) >= 0.7, "one class at a time is not all of them at once"
    assert np.mean(gaps) < 0.1 * np.mean(gains)


def test_many_classes_gain_and_rare_ones_are_left_where_they_are():
    labels, probabilities = drawn(1, 250, 30)
    thresholds = fit_macro_f1_thresholds(labels, probabilities)
    assert thresholds.sum() == pytest.approx(1)
    assert (thresholds > 0).all()
    gained = macro_f1(labels, moved(labels, probabilities), 30)
    assert gained > macro_f1(labels, probabilities.argmax(axis=1), 30) + 0.02
    n_rows = np.bincount(labels, minlength=30)
    still = thresholds[[*np.flatnonzero(n_rows < 3), n_rows.argmax()]]
    assert len(still) > 1
    np.testing.assert_allclose(still, still[0])


def test_where_nothing_is_better_nothing_is_moved():
    labels = np.array([0, 0, 0, 1, 1, 1])
    assert fit_macro_f1_thresholds(labels, np.eye(2)[labels]) is None
    assert fit_macro_f1_thresholds(labels, np.tile([0.6, 0.4], (6, 1))) is None, "equal answers cannot be told apart"
    sure = fit_macro_f1_thresholds(labels, np.array([[1.0, 0.0]] * 2 + [[1 - 1e-9, 1e-9]] * 4))
    assert np.isfinite(sure).all()
    assert (sure > 0).all()


def test_scores_are_of_what_is_decided_and_beliefs_of_probabilities():
    labels, probabilities = drawn(3, 200, 3)
    thresholds = np.array([0.6, 0.3, 0.1])
    predicted = SINGLE_LABEL.decide(probabilities, thresholds)
    np.testing.assert_array_equal(predicted, (probabilities / thresholds).argmax(axis=1))
    found, plain = (SINGLE_LABEL.evaluate(labels, probabilities, given) for given in (thresholds, None))
    assert found.accuracy == pytest.approx(accuracy_score(labels, predicted))
    assert found.macro_f1 == pytest.approx(macro_f1(labels, predicted, 3))
    assert found.mcc == pytest.approx(matthews_corrcoef(labels, predicted))
    assert found.accuracy != plain.accuracy
    assert (found.log_loss, found.ece) == (plain.log_loss, plain.ece)


def test_the_setting_makes_a_task_of_it():
    labels, probabilities = drawn(5, 60, 3)
    task = SINGLE_LABEL.deciding("moved")
    assert SINGLE_LABEL.deciding("largest") is SINGLE_LABEL
    assert MULTI_LABEL.deciding("moved") is MULTI_LABEL
    assert SINGLE_LABEL.fit_thresholds(labels, probabilities) is None
    np.testing.assert_array_equal(
        task.fit_thresholds(labels, probabilities), fit_macro_f1_thresholds(labels, probabilities)
    )
    fitted = task.evaluate_fitted(labels, probabilities)
    assert fitted.macro_f1 > SINGLE_LABEL.evaluate(labels, probabilities, None).macro_f1
    better = fitted.model_copy(update={"macro_f1": 1.0, "accuracy": 0.0})
    assert task.order(better) > task.order(fitted), "the best epoch is that of the best macro F1"
