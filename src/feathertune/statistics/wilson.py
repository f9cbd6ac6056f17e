"""Wilson's interval of a share. Source: Wilson 1927, J. Am. Stat. Assoc. 22, 209-212."""

from __future__ import annotations

import math
from typing import NamedTuple

import scipy

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """Both ends of a confidence interval."""

    low: float
    high: float


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Return the interval of a share of `n` rows; `n` is at least 1."""
    return score_interval(successes / n, n, z_of(confidence))


def score_interval(mean: float, n: float, z: float) -> Interval:
    """Return the interval of a share, `z` standard errors either way; `n` may be an effective number of rows."""
    scale = 1 + z**2 / n
    centre = (mean + z**2 / (2 * n)) / scale
    half = z * math.sqrt(mean * (1 - mean) / n + (z / (2 * n)) ** 2) / scale
    return Interval(max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half)))


def z_of(confidence: float = CONFIDENCE) -> float:
    """Return a normal distribution's half-width in standard errors."""
    return float(scipy.special.ndtri((1 + confidence) / 2))
