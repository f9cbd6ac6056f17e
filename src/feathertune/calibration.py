"""How far a method's probabilities can be believed, and the one temperature that makes them believable.

The temperature divides the logits of all classes, so it changes no prediction. It is found on validation rows; the test
rows only say what it is worth. Not for a choice between methods: probabilities can be mended, wrong answers cannot.

Source: Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv:1706.04599, section 4.2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from feathertune.metrics import PROBABILITY_FLOOR, score
from feathertune.records import Calibration

RELIABILITY_BINS = 10
# Wide enough for a model that is sure of everything it says, right or wrong.
_TEMPERATURES = (0.05, 50.0)


def calibrate(
    validation_labels: NDArray[np.integer],
    validation: NDArray[np.floating],
    test_labels: NDArray[np.integer],
    test: NDArray[np.floating],
) -> Calibration:
    """Fit the temperature on one split, and look at another with and without it.

    Args:
        validation_labels: Class indices, ``(N_validation,)``.
        validation: Probabilities, ``(N_validation, C)``.
        test_labels: Class indices, ``(N,)``.
        test: Probabilities, ``(N, C)``.
    """
    temperature = fit_temperature(validation_labels, validation)
    after = score(test_labels, apply_temperature(test, temperature))
    return Calibration(
        temperature=temperature, ece=after.ece, log_loss=after.log_loss, bins=reliability(test_labels, test)
    )


def fit_temperature(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> float:
    """The temperature with the lowest log loss, between 0.05 and 50.

    Args:
        labels: Class indices, ``(N,)``.
        probabilities: ``(N, C)``.
    """
    log_p = _logarithm(probabilities)
    of_label = log_p[np.arange(len(labels)), labels]

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float(np.mean(np.logaddexp.reduce(scale * log_p, axis=1) - scale * of_label))

    low, high = np.log(_TEMPERATURES)
    return float(np.exp(optimize.minimize_scalar(loss, bounds=(low, high), method="bounded").x))


def apply_temperature(probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Probabilities, ``(N, C)``, of logits divided by the temperature."""
    scaled = _logarithm(probabilities) / temperature
    cooled: NDArray[np.float64] = np.exp(scaled - np.logaddexp.reduce(scaled, axis=1)[:, None])
    return cooled


def reliability(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> list[tuple[int, float, float]]:
    """Rows by the confidence of their prediction, in ten bins of equal width, each open below and closed above.

    Args:
        labels: Class indices, ``(N,)``.
        probabilities: ``(N, C)``.

    Returns:
        Rows, mean confidence and share of right answers of each bin that has rows.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
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
    """Logits but for a constant of each row."""
    logarithm: NDArray[np.float64] = np.log(np.maximum(np.asarray(probabilities, np.float64), PROBABILITY_FLOOR))
    return logarithm
