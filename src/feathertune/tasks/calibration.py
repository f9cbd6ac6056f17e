"""Calibrate a method's probabilities by one temperature, which changes no prediction.

Source: Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv:1706.04599, section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from feathertune.records import Calibration
from feathertune.tasks.metrics import PROBABILITY_FLOOR, score, score_sets

RELIABILITY_BINS = 10
_LEAST_SPREAD = 1e-6
# Wide enough for a model that is always confident, right or wrong.
_TEMPERATURES = (0.05, 50.0)


def calibrate(
    validation_labels: NDArray[np.integer],
    validation: NDArray[np.floating],
    test_labels: NDArray[np.integer],
    test: NDArray[np.floating],
    given: NDArray[np.integer] | None = None,  # unused: the largest probability is judged, regardless of the decision
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
    log_p = log_probabilities(probabilities)
    of_label = log_p[np.arange(len(labels)), labels]

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float(np.mean(np.logaddexp.reduce(scale * log_p, axis=1) - scale * of_label))

    return _lowest(loss)


def fit_temperature_of_sets(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> float:
    """Return the temperature with the lowest log loss of all decisions, from labels and probabilities ``(N, C)``."""
    towards_label = np.where(labels.astype(bool), 1, -1) * log_odds(probabilities)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, -np.exp(-log_temperature) * towards_label).mean())

    return _lowest(loss)


def apply_temperature(probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Return probabilities, ``(N, C)``, of logits divided by the temperature."""
    scaled = log_probabilities(probabilities) / temperature
    cooled: NDArray[np.float64] = np.exp(scaled - np.logaddexp.reduce(scaled, axis=1)[:, None])
    return cooled


def apply_temperature_to_sets(probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Return independent probabilities, ``(N, C)``, of logits divided by the temperature."""
    cooled: NDArray[np.float64] = np.exp(-np.logaddexp(0, -log_odds(probabilities) / temperature))
    return cooled


def reliability(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> list[tuple[int, float, float]]:
    """Return number of rows, mean confidence and accuracy for each nonempty one of ten equal confidence bins."""
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


def log_probabilities(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return logits, up to a constant per row."""
    logarithm: NDArray[np.float64] = np.log(np.maximum(np.asarray(probabilities, np.float64), PROBABILITY_FLOOR))
    return logarithm


def log_odds(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the log odds of independent probabilities."""
    values = np.clip(np.asarray(probabilities, np.float64), PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    logits: NDArray[np.float64] = np.log(values) - np.log1p(-values)
    return logits


def _lowest(loss: Callable[[float], float]) -> float:
    low, high = np.log(_TEMPERATURES)
    return float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=(low, high), method="bounded").x))


@dataclass(frozen=True)
class Likelihood:
    """Likelihood of labels given logits ``(N, C)``, or of numbers given predictions ``(N, 1)``.

    Attributes:
        loss: Maps labels and logits to the sum of negative log-likelihoods; for numbers, half the squared errors.
        logits: Maps probabilities to logits; for classes, up to a constant per row.
        spread: Maps logits to their root mean square, the unit of their certainty; 1 for numbers.
    """

    loss: Callable[[NDArray[Any], NDArray[np.floating]], float]
    logits: Callable[[NDArray[np.floating]], NDArray[np.float64]]
    spread: Callable[[NDArray[np.floating]], float]


def _root_mean_square(values: NDArray[np.floating]) -> float:
    return max(_LEAST_SPREAD, float(np.sqrt(np.mean(np.square(values))))) if values.size else 1.0


LIKELIHOOD_OF_CLASSES = Likelihood(
    lambda labels, logits: float(np.sum(np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(labels)), labels])),
    log_probabilities,
    lambda logits: _root_mean_square(logits - logits.mean(axis=1, keepdims=True)),
)
LIKELIHOOD_OF_SETS = Likelihood(
    lambda labels, logits: float(np.sum(np.logaddexp(0, logits) - labels * logits)), log_odds, _root_mean_square
)
LIKELIHOOD_OF_NUMBERS = Likelihood(
    lambda labels, numbers: 0.5 * float(np.sum(np.square(numbers[:, 0] - labels))),
    lambda numbers: np.asarray(numbers, np.float64),
    lambda numbers: 1.0,
)
