"""Trust in a method's probabilities, and the one temperature that calibrates them without changing a prediction.

Source: Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv:1706.04599, section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from feathertune.records import Calibration
from feathertune.tasks.metrics import PROBABILITY_FLOOR, score, score_sets

RELIABILITY_BINS = 10
# Wide enough for a model that is sure of everything it says, right or wrong.
_TEMPERATURES = (0.05, 50.0)


def calibrate(
    validation_labels: NDArray[np.integer],
    validation: NDArray[np.floating],
    test_labels: NDArray[np.integer],
    test: NDArray[np.floating],
    given: NDArray[np.integer] | None = None,  # not used: the largest probability is judged, whatever was decided
) -> Calibration:
    """Fit the temperature on validation rows, and score the test rows: labels ``(N,)``, probabilities ``(N, C)``."""
    temperature = fit_temperature(validation_labels, validation)
    after = score(test_labels, apply_temperature(test, temperature))
    return Calibration(
        temperature=temperature, ece=after.ece, log_loss=after.log_loss, bins=reliability(test_labels, test)
    )


def calibrate_sets(
    validation_labels: NDArray[np.integer],
    validation: NDArray[np.floating],
    test_labels: NDArray[np.integer],
    test: NDArray[np.floating],
    given: NDArray[np.integer],
) -> Calibration:
    """Do the same for sets of labels ``(N, C)``; `given` are the test rows' decisions, ``(N, C)`` of 0 and 1."""
    temperature = fit_temperature_of_sets(validation_labels, validation)
    decided = given.astype(bool)
    after = score_sets(test_labels, apply_temperature_to_sets(test, temperature), decided)
    confidence = np.where(decided, test, 1 - test).ravel()
    return Calibration(
        temperature=temperature,
        ece=after.ece,
        log_loss=after.log_loss,
        bins=_bins(confidence, (test_labels == decided).ravel()),
    )


def fit_temperature(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> float:
    """Return the temperature with the lowest log loss, from class indices ``(N,)`` and probabilities ``(N, C)``."""
    log_p = _logarithm(probabilities)
    of_label = log_p[np.arange(len(labels)), labels]

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float(np.mean(np.logaddexp.reduce(scale * log_p, axis=1) - scale * of_label))

    return _lowest(loss)


def fit_temperature_of_sets(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> float:
    """Return the temperature with the lowest log loss of all decisions, from labels and probabilities ``(N, C)``."""
    towards_label = np.where(labels.astype(bool), 1, -1) * _logits(probabilities)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, -np.exp(-log_temperature) * towards_label).mean())

    return _lowest(loss)


def apply_temperature(probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Return probabilities, ``(N, C)``, of logits divided by the temperature."""
    scaled = _logarithm(probabilities) / temperature
    cooled: NDArray[np.float64] = np.exp(scaled - np.logaddexp.reduce(scaled, axis=1)[:, None])
    return cooled


def apply_temperature_to_sets(probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Return probabilities, ``(N, C)``, each by itself, of logits divided by the temperature."""
    cooled: NDArray[np.float64] = np.exp(-np.logaddexp(0, -_logits(probabilities) / temperature))
    return cooled


def reliability(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> list[tuple[int, float, float]]:
    """Return rows, mean confidence and share of right answers by confidence, in ten equal bins without empty ones."""
    return _bins(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)


def _bins(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> list[tuple[int, float, float]]:
    confidence = confidence.astype(np.float64)
    bins = np.digitize(confidence, np.linspace(0, 1, RELIABILITY_BINS + 1)[1:-1], right=True)
    found = []
    for index in range(RELIABILITY_BINS):
        here = bins == index
        if here.any():
            found.append(
                (int(here.sum()), round(float(confidence[here].mean()), 6), round(float(right[here].mean()), 6))
            )
    return found


def _logarithm(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return logits up to a constant of each row."""
    logarithm: NDArray[np.float64] = np.log(np.maximum(np.asarray(probabilities, np.float64), PROBABILITY_FLOOR))
    return logarithm


def _logits(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    values = np.clip(np.asarray(probabilities, np.float64), PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    logits: NDArray[np.float64] = np.log(values) - np.log1p(-values)
    return logits


def _lowest(loss: Callable[[float], float]) -> float:
    low, high = np.log(_TEMPERATURES)
    return float(np.exp(optimize.minimize_scalar(loss, bounds=(low, high), method="bounded").x))
