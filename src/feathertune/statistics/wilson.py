"""Wilson's interval of a share, which never leaves [0, 1] and is honest near both ends.

Source: Wilson 1927, J. Am. Stat. Assoc. 22, 209-212.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from scipy import special

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """Both ends of a confidence interval."""

    low: float
    high: float


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Score interval of a share; it never leaves [0, 1] and is honest near both ends.

    Args:
        successes: How many of the `n` rows are right.
        n: Rows, at least 1.
        confidence: Of the interval, such as 0.95.
    """
    return score_interval(successes / n, n, z_of(confidence))


def score_interval(mean: float, n: float, z: float) -> Interval:
    """That of a share of `n` rows, which may be a number of rows that would know as much.

    Args:
        mean: The share.
        n: Above 0.
        z: Standard errors either way, as the hypothesis has them.
    """
    scale = 1 + z**2 / n
    centre = (mean + z**2 / (2 * n)) / scale
    half = z * math.sqrt(mean * (1 - mean) / n + (z / (2 * n)) ** 2) / scale
    return Interval(max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half)))


def z_of(confidence: float = CONFIDENCE) -> float:
    """Standard errors of a normal that go either way."""
    return float(special.ndtri((1 + confidence) / 2))
