from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss, matthews_corrcoef

from feathertune.errors import DataError
from feathertune.tasks.metrics import PROBABILITY_FLOOR, balanced_accuracy, calibration_error, score


def test_hand_computed_values():
    # Predicted 0, 1, 1, 1 for the labels 0, 0, 1, 1: confusion [[1, 1], [0, 2]].
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    result = score(labels, probabilities)
    assert result.accuracy == 0.75
    assert result.macro_f1 == pytest.approx((2 / 3 + 4 / 5) / 2, abs=1e-12)
    assert result.mcc == pytest.approx((1 * 2 - 1 * 0) / math.sqrt(2 * 1 * 3 * 2), abs=1e-12)
    assert result.log_loss == pytest.approx(-math.log(0.9 * 0.4 * 0.8 * 0.7) / 4, abs=1e-6)
    # Each row has a bin of its own, so the error is the mean of |confidence - right|.
    assert result.ece == pytest.approx((0.1 + 0.6 + 0.2 + 0.3) / 4, abs=1e-12)
    assert result.n == 4


def test_balanced_accuracy_by_hand():
    # Recalls 1 of 2 and 2 of 2; then 3 of 4 and 0 of 1, of which accuracy makes 0.6.
    assert balanced_accuracy(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])) == 0.75
    assert balanced_accuracy(np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 1, 0])) == 0.375


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_balanced_accuracy_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice(5, 60, p=[0.8, 0.1, 0.05, 0.05, 0.0])
    probabilities = rng.dirichlet(np.ones(5), 60)
    predicted = probabilities.argmax(axis=1)
    assert 4 in predicted, "a class that is not present"
    assert score(labels, probabilities).balanced_accuracy == pytest.approx(
        balanced_accuracy_score(labels, predicted), abs=1e-15
    )


def test_calibration_error_averages_within_a_bin():
    # 0.81 and 0.85 share the bin (0.8, 0.867]: one right of two, mean confidence 0.83. 0.95 is alone.
    correct = np.array([True, False, True])
    assert calibration_error(correct, np.array([0.81, 0.85, 0.95])) == pytest.approx((2 * 0.33 + 0.05) / 3, abs=1e-12)


def test_calibration_bins_are_closed_above():
    # 0.6 = 9/15 belongs to (8/15, 9/15] with 0.55, where the gaps cancel; 0.61 is in the next bin.
    correct = np.array([True, False])
    assert calibration_error(correct, np.array([0.55, 0.6])) == pytest.approx(abs(1.15 - 1) / 2, abs=1e-12)
    assert calibration_error(correct, np.array([0.55, 0.61])) == pytest.approx((0.45 + 0.61) / 2, abs=1e-12)


def test_ties_go_to_the_lower_index():
    assert score(np.array([0, 1]), np.full((2, 2), 0.5)).accuracy == 0.5
    assert score(np.array([0, 0]), np.full((2, 2), 0.5)).accuracy == 1.0


def test_certain_and_wrong_costs_the_floor_and_no_more():
    result = score(np.array([0, 1]), np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert result.log_loss == pytest.approx(-math.log(PROBABILITY_FLOOR), abs=1e-6)
    assert result.ece == 1.0


def test_one_class_on_both_sides_is_scored_without_a_warning():
    result = score(np.array([1, 1]), np.array([[0.2, 0.8], [0.1, 0.9]]))
    assert (result.accuracy, result.mcc, result.macro_f1) == (1.0, 0.0, 1.0)


def test_macro_f1_averages_over_the_classes_that_occur():
    labels = np.array([0, 1])
    assert score(labels, np.eye(3)[labels]).macro_f1 == 1.0
    assert score(labels, np.eye(3)[[0, 2]]).macro_f1 == pytest.approx(1 / 3), "a class that is only predicted counts 0"


def test_single_and_double_precision_agree():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 3)) * 8
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = rng.integers(0, 3, 200)
    single, double = score(labels, probabilities.astype(np.float32)), score(labels, probabilities)
    assert single.accuracy == double.accuracy
    assert single.log_loss == pytest.approx(double.log_loss, rel=1e-5)


@st.composite
def _predictions(draw):
    n_classes = draw(st.integers(2, 5))
    n = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    probabilities = rng.dirichlet(np.full(n_classes, draw(st.sampled_from([0.05, 1.0, 20.0]))), size=n)
    return rng.integers(0, n_classes, n), probabilities


@settings(max_examples=60, deadline=None)
@given(_predictions())
def test_agrees_with_scikit_learn_and_stays_in_range(case):
    labels, probabilities = case
    predicted = probabilities.argmax(axis=1)
    result = score(labels, probabilities)
    assert result.accuracy == accuracy_score(labels, predicted)
    expected = f1_score(labels, predicted, average="macro", zero_division=0)
    assert result.macro_f1 == pytest.approx(expected)
    if len({*labels, *predicted}) > 1:
        assert result.mcc == pytest.approx(matthews_corrcoef(labels, predicted))
    floored = np.clip(probabilities, PROBABILITY_FLOOR, 1)
    expected = log_loss(labels, floored / floored.sum(axis=1, keepdims=True), labels=range(probabilities.shape[1]))
    assert result.log_loss == pytest.approx(expected)
    assert 0 <= result.ece <= 1


@settings(max_examples=30, deadline=None)
@given(_predictions(), st.integers(0, 2**32 - 1))
def test_the_order_of_rows_does_not_matter(case, seed):
    labels, probabilities = case
    order = np.random.default_rng(seed).permutation(labels.size)
    one, other = score(labels, probabilities), score(labels[order], probabilities[order])
    assert one.model_dump() == pytest.approx(other.model_dump())


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 1], [[0.5, 0.5]], r"\(2,\).*\(1, 2\)"),
        ([], np.zeros((0, 2)), "at least 1"),
        ([0], [0.5], "Expected \\(N,\\) and \\(N, C\\)"),
        ([0], [[1.0]], "at least two classes"),
        ([0, 2], [[0.5, 0.5]] * 2, "0 to 1"),
        ([-1, 0], [[0.5, 0.5]] * 2, "class indices"),
        ([0.0, 1.0], [[0.5, 0.5]] * 2, "float64"),
        ([0, 1], [[0.5, 0.5], [np.nan, 0.5]], "row 1"),
        ([0], [[np.inf, 0.5]], "row 0"),
        ([0], [[-0.1, 1.1]], "row 0"),
        ([0], [[0.5, 0.6]], "sum to 1"),
    ],
)
def test_refuses_what_cannot_be_scored(labels, probabilities, message):
    labels = np.array(labels, dtype=int if not labels or isinstance(labels[0], int) else float)
    with pytest.raises(DataError, match=message):
        score(labels, np.array(probabilities))
