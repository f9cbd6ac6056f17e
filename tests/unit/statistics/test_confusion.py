"""Macro F1 and Matthews correlation as means over rows: scikit-learn's value, its influence function, and intervals."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, matthews_corrcoef

from feathertune.statistics.confusion import macro_f1_contributions, mcc_contributions, one_error_per_class
from feathertune.statistics.inference import bootstrap_scores, paired_difference, seed_interval
from feathertune.tasks.scores import MACRO_F1, MCC

MEASURES = [
    (macro_f1_contributions, lambda y, x, **w: f1_score(y, x, average="macro", zero_division=0, **w)),
    (mcc_contributions, matthews_corrcoef),
]


def drawn(seed: int, n_classes: int = 3, rows: int = 120):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, rows)
    return labels, np.where(rng.random(rows) < 0.7, labels, rng.integers(0, n_classes, rows))


@pytest.mark.parametrize(("contributions", "reference"), MEASURES)
@pytest.mark.parametrize("n_classes", [2, 5])
def test_the_mean_is_scikit_learns_score(contributions, reference, n_classes):
    labels, predicted = drawn(0, n_classes)
    assert contributions(labels, predicted).mean() == pytest.approx(reference(labels, predicted), abs=1e-12)
    some = labels < 2  # a class that only occurs on one side counts
    assert contributions(labels[some], predicted[some]).mean() == pytest.approx(
        reference(labels[some], predicted[some]), abs=1e-12
    )


@pytest.mark.parametrize(("contributions", "reference"), MEASURES)
def test_a_contribution_is_the_rows_influence(contributions, reference):
    """Raise the weight of one row a little, lower the others, and compare the change of the weighted score."""
    labels, predicted = drawn(1, rows=60)
    values, step = contributions(labels, predicted), 1e-6
    for row in range(0, 60, 7):
        weights = np.full(60, (1 - step) / 60)
        weights[row] += step
        moved = reference(labels, predicted, sample_weight=weights)
        assert (moved - values.mean()) / step == pytest.approx(values[row] - values.mean(), abs=1e-3)


@pytest.mark.parametrize(("contributions", "reference"), MEASURES)
def test_the_standard_error_is_that_of_the_jackknife(contributions, reference):
    labels, predicted = drawn(2, rows=300)
    left_out = np.array([reference(np.delete(labels, row), np.delete(predicted, row)) for row in range(300)])
    jackknife = np.sqrt(299 / 300 * ((left_out - left_out.mean()) ** 2).sum())
    assert contributions(labels, predicted).std(ddof=1) / np.sqrt(300) == pytest.approx(jackknife, rel=0.02)


def test_macro_f1_of_sets_is_scikit_learns():
    rng = np.random.default_rng(3)
    labels = (rng.random((80, 4)) < 0.3).astype(np.int8)
    predicted = np.where(rng.random((80, 4)) < 0.8, labels, 1 - labels).astype(np.int8)
    labels[:, 3] = predicted[:, 3] = 0  # a label that nobody has counts 0
    found = macro_f1_contributions(labels, predicted)
    assert found.shape == (80,)
    assert found.mean() == pytest.approx(f1_score(labels, predicted, average="macro", zero_division=0), abs=1e-12)


def test_matthews_correlation_of_sets_is_of_every_decision():
    rng = np.random.default_rng(3)
    labels = (rng.random((80, 4)) < 0.3).astype(np.int8)
    predicted = np.where(rng.random((80, 4)) < 0.8, labels, 1 - labels).astype(np.int8)
    found = mcc_contributions(labels, predicted)
    assert found.shape == (80,)
    assert found.mean() == pytest.approx(matthews_corrcoef(labels.ravel(), predicted.ravel()), abs=1e-12)


def test_matthews_correlation_of_a_constant_answer_is_zero():
    assert (mcc_contributions(np.array([0, 1, 1, 0]), np.zeros(4, dtype=int)) == 0).all()


@pytest.mark.parametrize("score", [MACRO_F1, MCC], ids=lambda score: score.name)
def test_perfect_predictions_have_a_wide_interval_where_a_class_is_rare(score):
    labels = np.repeat([0, 1], [190, 10])
    perfect = score.measure.answers(labels, labels[None])
    found = seed_interval(perfect)
    assert found.mean == found.high == 1.0
    assert 0.75 < found.low < 0.95, "ten of ten is not certainty"
    difference = paired_difference(perfect, perfect)
    assert difference.mean == 0
    assert difference.low < 0 < difference.high
    assert difference.p == 1.0


@pytest.mark.parametrize("score", [MACRO_F1, MCC], ids=lambda score: score.name)
def test_differences_and_bootstrap_agree(score):
    labels, one = drawn(4, rows=500)
    other = drawn(4, rows=500)[1].copy()
    other[:100] = labels[:100]
    a, b = (score.measure.answers(labels, predicted[None]) for predicted in (other, one))
    found = paired_difference(a, b)
    assert found.mean == pytest.approx(a.score - b.score, abs=1e-9)
    draws = bootstrap_scores([a, b], resamples=500)
    assert (draws[:, 0] - draws[:, 1]).std() == pytest.approx((found.high - found.low) / 3.92, rel=0.1)


def test_padding_has_an_error_of_each_class():
    labels, predicted = one_error_per_class(np.array([2, 2, 0, 5]))
    assert labels.tolist() == [0, 2, 5] * 2
    assert ((labels != predicted).tolist()) == [False] * 3 + [True] * 3
    has, given = one_error_per_class(np.eye(3, dtype=np.int8))
    assert (has.sum(axis=0) == 2).all()
    assert (given.sum(axis=0) == 1).all()
