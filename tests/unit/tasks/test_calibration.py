from __future__ import annotations

import numpy as np
import pytest

from feathertune.tasks import MULTI_LABEL, SINGLE_LABEL, sigmoid
from feathertune.tasks.calibration import (
    apply_temperature,
    apply_temperature_to_sets,
    calibrate,
    calibrate_sets,
    fit_temperature,
    fit_temperature_of_sets,
    reliability,
)
from feathertune.tasks.metrics import score, score_sets


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def drawn(n, n_classes, seed, *, too_sure):
    """Labels drawn by probabilities, and those probabilities as a model says them that is too sure by a factor."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, n_classes)) * 1.5
    true = softmax(logits)
    labels = (true.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return labels, softmax(too_sure * logits)


@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize("too_sure", [0.5, 1.0, 3.0])
def test_the_temperature_is_found_again(n_classes, too_sure):
    labels, said = drawn(20_000, n_classes, 1, too_sure=too_sure)
    assert fit_temperature(labels, said) == pytest.approx(too_sure, rel=0.05)


def test_a_temperature_divides_logits():
    logits = np.array([[2.0, 0.0, -1.0], [0.3, 0.1, 5.0]])
    assert apply_temperature(softmax(logits), 2.5) == pytest.approx(softmax(logits / 2.5))
    assert apply_temperature(softmax(logits), 1.0) == pytest.approx(softmax(logits))


def test_it_is_fitted_on_validation_and_mends_the_test_rows():
    validation_labels, validation = drawn(3000, 3, 2, too_sure=4.0)
    labels, test = drawn(3000, 3, 3, too_sure=4.0)
    before, after = score(labels, test), calibrate(validation_labels, validation, labels, test)
    assert after.temperature == fit_temperature(validation_labels, validation)
    assert after.ece < 0.04 < 0.15 < before.ece
    assert after.log_loss < before.log_loss


def test_reliability_by_hand():
    probabilities = np.array([[0.55, 0.45], [0.42, 0.58], [0.6, 0.4], [0.05, 0.95], [0.0, 1.0]])
    bins = reliability(np.array([0, 0, 1, 1, 0]), probabilities)
    assert bins == [(3, pytest.approx(1.73 / 3, abs=1e-6), pytest.approx(1 / 3, abs=1e-6)), (2, 0.975, 0.5)]


def test_probabilities_of_nothing_and_of_all_are_borne():
    labels, hard = np.array([0, 1, 1]), np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    found = calibrate(labels, hard, labels, hard)
    assert found.temperature > 5
    assert np.isfinite(found.log_loss)


# Several labels a text


def drawn_sets(n, n_labels, seed, *, too_sure):
    """Labels drawn by probabilities of their own, some of them rare, and those of a model that is too sure."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(n, n_labels)) - np.linspace(0, 3, n_labels)
    return (rng.random(logits.shape) < sigmoid(logits)).astype(np.int8), sigmoid(too_sure * logits)


@pytest.mark.parametrize("too_sure", [0.5, 1.0, 3.0])
def test_one_temperature_of_all_decisions_is_found_again(too_sure):
    labels, said = drawn_sets(5_000, 6, 1, too_sure=too_sure)
    assert fit_temperature_of_sets(labels, said) == pytest.approx(too_sure, rel=0.05)


def test_the_temperature_of_decisions_divides_logits():
    logits = np.array([[2.0, 0.0, -1.0], [0.3, 0.1, 5.0]])
    assert apply_temperature_to_sets(sigmoid(logits), 2.5) == pytest.approx(sigmoid(logits / 2.5))
    assert apply_temperature_to_sets(sigmoid(logits), 1.0) == pytest.approx(sigmoid(logits))


def test_two_labels_that_exclude_each_other_have_the_temperature_of_two_classes():
    """A sigmoid of a logit is the softmax of it and 0, so there is one answer to what mends both."""
    labels, said = drawn(3_000, 2, 4, too_sure=2.5)
    as_sets = np.eye(2, dtype=np.int8)[labels]
    assert fit_temperature_of_sets(as_sets, said) == pytest.approx(fit_temperature(labels, said), rel=1e-4)
    assert apply_temperature_to_sets(said, 2.0) == pytest.approx(apply_temperature(said, 2.0))


def test_decisions_are_mended_and_none_is_changed():
    parts = [drawn_sets(1_500, 5, seed, too_sure=4.0) for seed in (2, 3)]
    (validation_labels, validation), (labels, test) = parts
    thresholds = MULTI_LABEL.fit_thresholds(validation_labels, validation)
    given = MULTI_LABEL.decide(test, thresholds)
    before = MULTI_LABEL.evaluate(labels, test, thresholds)
    after = MULTI_LABEL.calibrate(validation_labels, validation, labels, test, given)
    assert after == calibrate_sets(validation_labels, validation, labels, test, given)
    assert after.temperature == fit_temperature_of_sets(validation_labels, validation)
    assert after.ece < 0.04 < 0.1 < before.ece
    assert after.log_loss < before.log_loss
    mended = apply_temperature_to_sets(test, after.temperature)
    assert score_sets(labels, mended, given == 1).ece == after.ece
    assert sum(rows for rows, _, _ in after.bins) == labels.size
    right = sum(rows * share for rows, _, share in after.bins) / labels.size
    assert right == pytest.approx((given == labels).mean(), abs=1e-5)


def test_the_reliability_of_decisions_by_hand():
    """A label that is given below one half is a decision of little confidence."""
    labels, probabilities = np.array([[1, 0], [0, 1]]), np.array([[0.35, 0.05], [0.38, 0.98]])
    found = calibrate_sets(labels, probabilities, labels, probabilities, np.array([[1, 0], [1, 1]]))
    assert found.bins == [(2, pytest.approx(0.365), 0.5), (2, pytest.approx(0.965), 1.0)]


def test_decisions_of_nothing_and_of_all_are_borne():
    labels, hard = np.array([[0, 1], [1, 1]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    found = calibrate_sets(labels, hard, labels, hard, hard.astype(int))
    assert found.temperature > 5
    assert np.isfinite(found.log_loss)


def test_thresholds_do_not_change_the_calibration_of_one_label():
    (known, found), (labels, test) = (drawn(400, 3, seed, too_sure=2.0) for seed in (5, 6))
    thresholds = np.array([0.9, 0.05, 0.05])
    calibrated = SINGLE_LABEL.calibrate(known, found, labels, test, SINGLE_LABEL.decide(test, thresholds))
    assert calibrated == calibrate(known, found, labels, test)
