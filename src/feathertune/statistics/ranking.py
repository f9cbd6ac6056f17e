"""How the models of one method order the test rows, where labels are numbers, and the rank correlation made of it.

Spearman's correlation is of all rows together: no row is right by itself. But to first order it is a mean over rows
as well, of the score plus what the row moves it by: its influence function, of both orders and their ties as the test
rows have them. So rows and seeds, differences, equivalence and the bootstrap are those of
`feathertune.statistics.inference`, with these values in the place of right answers (delta method).

The interval of one correlation goes through Fisher's z = atanh: near 1 it can only fall far, and not rise. A model that
gives all rows one number has correlation 0, whatever the rows: that is certain. Where not one row speaks against a
perfect order, what no row of N leaves open (Wilson's interval of 0 of N) is the share of rows that may yet have no
relation to their labels, and a share w of such rows costs the correlation about w. Of three rows, or of labels that are
all equal, nothing is known.

Needs numpy and scipy alone. Not for how far numbers are off: that is the mean absolute error of a run.

Source: Croux & Dehon 2010, Influence functions of the Spearman and Kendall correlation measures, Stat. Methods Appl.
19, 497-515; with ties Borkowf 2002, Comput. Stat. Data Anal. 39, 271-286; Fieller, Hartley & Pearson 1957, Biometrika
44, 470-481 (Fisher's z of a rank correlation).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from feathertune.records import MetricName
from feathertune.statistics.answers import Scored, Stratum
from feathertune.statistics.wilson import Interval, wilson

# Fisher's z has the variance 1 / (N - 3).
_ROWS_THAT_SAY_NOTHING = 3
# What a row adds is counted in such parts, whose sums over seeds are exact: equal orders are equal to the last bit
# then, in whatever order their seeds stand.
_PARTS_OF_A_ROW = 10**12
# And in these, for sums over rows.
_PARTS_OF_ONE = 2**24


class Ranking(Scored):
    """The numbers that one method predicts.

    Args:
        labels: ``(N,)``.
        predicted: ``(S, N)``: S seeds on the same N test rows.

    Attributes:
        values: The correlation of each seed plus each row's influence on it, ``(S, N)``; their mean over the rows is
            the correlation.

    Raises:
        ValueError: If the shapes are not ``(N,)`` and ``(S, N)`` with at least one of each.
    """

    exact, widest = False, 2.0

    def __init__(self, labels: ArrayLike, predicted: ArrayLike) -> None:
        self.labels, self.predicted = np.asarray(labels, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
        if self.predicted.ndim != 2 or self.predicted.size == 0 or self.labels.shape != self.predicted.shape[1:]:
            raise ValueError(
                f"Predictions of shape {self.predicted.shape} of labels of shape {self.labels.shape} cannot be "
                "compared. Expected (S, N) and (N,), neither of them 0."
            )
        order = _order_of(self.labels)
        values = np.stack([_what_rows_add(order, _order_of(one)) for one in self.predicted])
        self._parts = np.rint(values * _PARTS_OF_A_ROW)
        super().__init__(self._parts / _PARTS_OF_A_ROW, (Stratum(1.0, np.arange(len(self.labels))),))

    @property
    def metric(self) -> MetricName:
        """Spearman's correlation."""
        return "spearman"

    @property
    def informed(self) -> bool:
        """Not where labels are all equal, or three or fewer."""
        return self.n_rows > _ROWS_THAT_SAY_NOTHING and bool(np.ptp(self.labels))

    @property
    def rows(self) -> NDArray[np.float64]:
        """The values, averaged over the seeds, ``(N,)``."""
        rows: NDArray[np.float64] = self._parts.sum(axis=0) / (self.n_seeds * _PARTS_OF_A_ROW)
        return rows

    @property
    def whole(self) -> tuple[NDArray[np.floating], int]:
        """The mean over the seeds in parts of 2 ** 24."""
        return np.rint(self.rows * _PARTS_OF_ONE), _PARTS_OF_ONE

    def of_rows(self, rows: NDArray[np.integer]) -> Ranking:
        """The order of some of the test rows among themselves."""
        return Ranking(self.labels[rows], self.predicted[:, rows])

    def scored_like(self, other: Scored) -> bool:
        """Whether the labels are the same."""
        return isinstance(other, Ranking) and np.array_equal(self.labels, other.labels)


def fisher_interval(ranking: Ranking, half: float) -> Interval:
    """The interval of the mean correlation.

    Args:
        ranking: Of one method.
        half: Its half-width as if the correlation had no ends.

    Returns:
        Within [-1, 1], and all of that where nothing is known.
    """
    mean = ranking.score
    if not ranking.informed:
        return Interval(-1.0, 1.0)
    if half == 0 or abs(mean) >= 1:
        open_still = wilson(0, ranking.n_rows).high if mean else 0.0
        return Interval(max(-1.0, mean - open_still), min(1.0, mean + open_still))
    z, half_z = math.atanh(mean), half / (1 - mean**2)
    return Interval(math.tanh(z - half_z), math.tanh(z + half_z))


class _Order(NamedTuple):
    """Numbers by their place.

    Attributes:
        group: Of each row, the place of its number among the different ones, ``(N,)``.
        grade: Of each row, the share of rows below it and half of those beside it, less one half, ``(N,)``; mean 0.
        variance: Of the grades.
    """

    group: NDArray[np.intp]
    grade: NDArray[np.float64]
    variance: float


def _order_of(numbers: NDArray[np.float64]) -> _Order:
    _, group, sizes = np.unique(numbers, return_inverse=True, return_counts=True)
    above = np.cumsum(sizes)
    grade = ((above - sizes / 2) / len(numbers) - 0.5)[group]
    return _Order(group, grade, float((grade**2).mean()))


def _above(order: _Order, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each row, the sum of values over the rows above it and half of those beside it, over N."""
    of_group = np.bincount(order.group, weights=values)
    up_to = np.cumsum(of_group)
    sums: NDArray[np.float64] = ((up_to[-1] - up_to + of_group / 2) / len(values))[order.group]
    return sums


def _what_rows_add(y: _Order, x: _Order) -> NDArray[np.float64]:
    """The correlation of two orders plus each row's influence on it, ``(N,)``; all 0 where one has no order.

    With grades u and v, the covariance is E[phi(Y - Y') phi(X - X'')] - 1/4 over three rows, where phi is a step of 1
    with 1/2 at its middle; the influence of a row is what each of the three places gives with that row in it. The
    variances are the same of u alone and of v alone.
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
