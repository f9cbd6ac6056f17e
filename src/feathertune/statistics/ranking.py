"""Spearman's rank correlation as a mean over test rows: of the score plus each row's influence on it, ties included.

Source: Croux & Dehon 2010, Influence functions of the Spearman and Kendall correlation measures, Stat. Methods Appl.
19, 497-515; with ties Borkowf 2002, Comput. Stat. Data Anal. 39, 271-286.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Fisher's z has the variance 1 / (N - 3), so three rows carry no information.
LEAST_RANKS = 4


def spearman_contributions(labels: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64]:
    """Return the correlation of numbers ``(N,)`` plus each row's influence on it, ``(N,)``."""
    return _contributions(_order_of(np.asarray(labels, np.float64)), _order_of(np.asarray(predicted, np.float64)))


class _Order(NamedTuple):
    """Each row's place among the different numbers, its share of lower rows less one half, and their variance."""

    group: NDArray[np.intp]
    grade: NDArray[np.float64]
    variance: float


def _order_of(numbers: NDArray[np.float64]) -> _Order:
    _, group, sizes = np.unique(numbers, return_inverse=True, return_counts=True)
    above = np.cumsum(sizes)
    grade = ((above - sizes / 2) / len(numbers) - 0.5)[group]
    return _Order(group, grade, float((grade**2).mean()))


def _above(order: _Order, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each row's sum of values over the rows above it and half of those equal to it, over N."""
    of_group = np.bincount(order.group, weights=values)
    up_to = np.cumsum(of_group)
    sums: NDArray[np.float64] = ((up_to[-1] - up_to + of_group / 2) / len(values))[order.group]
    return sums


def _contributions(y: _Order, x: _Order) -> NDArray[np.float64]:
    """Return the correlation of two orders plus each row's influence on it, ``(N,)``; all 0 if one has no order.

    With grades u and v, the covariance is E[phi(Y - Y') phi(X - X'')] - 1/4 over three rows (phi steps by 1, 1/2 at its
    middle); a row's influence is what each of the three places gives with that row in it.
    """
    scale = math.sqrt(y.variance * x.variance)
    if scale == 0:
        return np.zeros(len(y.grade))
    u, v = y.grade, x.grade
    correlation = float((u * v).mean()) / scale
    together = (u * v + _above(y, v) + _above(x, u)) / scale
    alone = (u**2 + 2 * _above(y, u)) / y.variance + (v**2 + 2 * _above(x, v)) / x.variance
    # Three times the correlation is the mean of the first part, and of the second: they take each other's away.
    values: NDArray[np.float64] = correlation + together - correlation / 2 * alone
    return values
