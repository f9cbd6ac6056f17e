from __future__ import annotations

import numpy as np
import pytest

from feathertune.calibration import apply_temperature, calibrate, fit_temperature, reliability
from feathertune.metrics import score


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
