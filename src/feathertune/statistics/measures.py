"""Scores as means over test rows, so that all of them share intervals, paired tests and the bootstrap.

Source: scores of all rows together (delta method): Hampel 1974, J. Am. Stat. Assoc. 69, 383-393.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Labels = NDArray[Any]
# Contributions other than 0 and 1 are rounded to such parts. Their sums are exact, so equal predictions give equal
# scores to the last bit, regardless of the order of seeds and rows.
_PARTS = 10**12
_COARSE_PARTS = 2**24
# Fisher's z has the variance 1 / (N - 3), so three rows carry no information.
_LEAST_RANKS = 4


class Stratum(NamedTuple):
    """Test rows ``(n,)`` that vary alike, and the weight of their mean in the score; all weights sum to 1."""

    weight: float
    rows: NDArray[np.intp]


def one_stratum(labels: Labels) -> tuple[Stratum, ...]:
    """Return all rows as one stratum."""
    return (Stratum(1.0, np.arange(len(labels))),)


def class_strata(labels: Labels) -> tuple[Stratum, ...]:
    """Return one stratum per class, all of equal weight; classes with a single row, which has no variance, are pooled.

    Source: collapsed strata, Cochran 1977, Sampling Techniques, section 5A.12.
    """
    _, of_row, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    groups = np.split(np.argsort(of_row, kind="stable"), np.cumsum(sizes)[:-1])
    strata = [Stratum(1 / len(sizes), rows) for rows in groups if len(rows) > 1]
    if single := [rows for rows in groups if len(rows) == 1]:
        strata.append(Stratum(len(single) / len(sizes), np.concatenate(single)))
    return tuple(strata)


def is_right(labels: Labels, predicted: Labels) -> NDArray[np.bool_]:
    """Return which rows are predicted exactly, ``(N,)``: the class, or the whole set of labels."""
    same = np.asarray(labels) == np.asarray(predicted)
    right: NDArray[np.bool_] = same if same.ndim == 1 else same.all(axis=1)
    return right


def spearman_contributions(labels: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64]:
    """Return the correlation of numbers ``(N,)`` plus each row's influence on it, ``(N,)``; all 0 if one has no order.

    With grades u and v, the covariance is E[phi(Y - Y') phi(X - X'')] - 1/4 over three rows (phi steps from 0 to 1, and
    is 1/2 at the step). A row's influence sums the terms with that row in each of the three places. Ties are included.

    Source: Croux & Dehon 2010, Influence functions of the Spearman and Kendall correlation measures, Stat. Methods
    Appl. 19, 497-515; with ties Borkowf 2002, Comput. Stat. Data Anal. 39, 271-286.
    """
    y, x = _order_of(np.asarray(labels, np.float64)), _order_of(np.asarray(predicted, np.float64))
    scale = math.sqrt(y.variance * x.variance)
    if scale == 0:
        return np.zeros(len(y.grade))
    u, v = y.grade, x.grade
    correlation = float((u * v).mean()) / scale
    together = (u * v + _above(y, v) + _above(x, u)) / scale
    alone = (u**2 + 2 * _above(y, u)) / y.variance + (v**2 + 2 * _above(x, v)) / x.variance
    # Both corrections have a mean of three times the correlation, so they cancel in the mean.
    values: NDArray[np.float64] = correlation + together - correlation / 2 * alone
    return values


def explained_contributions(targets: NDArray[np.float64], predicted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 minus each row's squared error over the mean row's squared distance to the mean target, ``(N,)``.

    Both are ``(N, C)``; the mean of the contributions is the share of the targets' variance that is explained (R2).
    """
    variance = float(((targets - targets.mean(axis=0)) ** 2).sum(axis=1).mean())
    values: NDArray[np.float64] = 1.0 - ((predicted - targets) ** 2).sum(axis=1) / (variance or 1.0)
    return values


class _Order(NamedTuple):
    """Each row's place among the different numbers, its share of lower rows minus one half, and their variance."""

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


@dataclass(frozen=True)
class Measure:
    """A score as a mean over test rows.

    Attributes:
        contributions: Maps labels and predictions of N rows to ``(N,)``; bool if `exact`.
        exact: Single answers are right or wrong, so that McNemar's test and Wilson's interval apply.
        low: Lower end of the scale; the upper end is 1. Below 0, intervals use Fisher's z.
        least_rows: Fewer rows carry no information.
        padding: Maps labels to a few extra rows with an error in each class, which give each class a variance.
    """

    name: str
    contributions: Callable[[Labels, Labels], NDArray[Any]]
    strata: Callable[[Labels], tuple[Stratum, ...]] = one_stratum
    exact: bool = False
    low: float = 0.0
    least_rows: int = 1
    padding: Callable[[Labels], tuple[Labels, Labels]] | None = None

    def answers(self, labels: ArrayLike, predicted: ArrayLike) -> Answers:
        """Return one method's answers; see `Answers`."""
        return Answers(self, np.asarray(labels), np.asarray(predicted))


class Answers:
    """Predictions ``(S, N)`` or ``(S, N, C)`` of one method's S seeds, as contributions `values` ``(S, N)``."""

    def __init__(self, measure: Measure, labels: Labels, predicted: Labels) -> None:
        if predicted.ndim != labels.ndim + 1 or predicted.shape[1:] != labels.shape or predicted.size == 0:
            raise ValueError(
                f"Predictions of shape {predicted.shape} do not fit labels of shape {labels.shape}. "
                "Expected (S, N) and (N,), or (S, N, C) and (N, C), with at least one seed and one row."
            )
        self.measure, self.labels, self.predicted = measure, labels, predicted
        self.strata = measure.strata(labels)
        contributions = np.stack([measure.contributions(labels, one) for one in predicted])
        self._parts = contributions if measure.exact else np.rint(contributions * _PARTS)
        self._per_row = 1 if measure.exact else _PARTS
        self.values: NDArray[Any] = self._parts if measure.exact else self._parts / _PARTS

    @property
    def n_seeds(self) -> int:
        """Number of seeds S."""
        return len(self.values)

    @property
    def n_rows(self) -> int:
        """Number of rows N."""
        return int(self.values.shape[1])

    @property
    def rows(self) -> NDArray[np.float64]:
        """Mean contribution over the seeds, ``(N,)``."""
        mean: NDArray[np.float64] = self._parts.sum(axis=0) / (self.n_seeds * self._per_row)
        return mean

    @property
    def score(self) -> float:
        """Score over all seeds."""
        return sum(weight * float(self.values[:, rows].mean()) for weight, rows in self.strata)

    @property
    def seed_scores(self) -> NDArray[np.float64]:
        """Score of each seed, ``(S,)``."""
        scores: NDArray[np.float64] = np.zeros(self.n_seeds)
        for weight, rows in self.strata:
            scores += weight * self.values[:, rows].mean(axis=1)
        return scores

    @property
    def informed(self) -> bool:
        """True if these rows can separate a good method from a bad one."""
        varies = self.measure.least_rows == 1 or bool((self.labels != self.labels[0]).any())
        return varies and self.n_rows >= self.measure.least_rows

    @property
    def whole(self) -> tuple[NDArray[np.floating], int]:
        """Mean contribution over the seeds as whole numbers, ``(N,)``, and their divisor; sums of them are exact."""
        if self.measure.exact:
            return self.values.sum(axis=0).astype(np.float32), self.n_seeds
        return np.rint(self.rows * _COARSE_PARTS), _COARSE_PARTS

    def padded(self) -> Answers:
        """Return the answers with the measure's padding added."""
        assert self.measure.padding is not None, "rows are of classes"
        labels, predicted = self.measure.padding(self.labels)
        more = np.broadcast_to(predicted, (self.n_seeds, *predicted.shape))
        return Answers(
            self.measure, np.concatenate([self.labels, labels]), np.concatenate([self.predicted, more], axis=1)
        )

    def of_rows(self, rows: NDArray[np.integer]) -> Answers:
        """Return the answers to some of the test rows, scored among themselves."""
        return Answers(self.measure, self.labels[rows], self.predicted[:, rows])


def check_paired(a: Answers, b: Answers) -> None:
    """Raise a `ValueError` if methods were scored differently or on different rows."""
    if a.n_rows != b.n_rows:
        raise ValueError(f"{a.n_rows} and {b.n_rows} test rows cannot be paired. Expected the same rows.")
    if a.measure is not b.measure or not (a.labels is b.labels or np.array_equal(a.labels, b.labels)):
        raise ValueError("Answers with different labels or scores cannot be paired. Expected the same for both.")


ACCURACY = Measure("accuracy", is_right, exact=True)
# Mean recall over the classes. Source: Brodersen et al. 2010, The balanced accuracy and its posterior distribution,
# ICPR, 3121-3124.
BALANCED_ACCURACY = Measure("balanced_accuracy", is_right, class_strata, exact=True)
EXPLAINED = Measure("r2", explained_contributions, low=-1.0)
SPEARMAN = Measure("spearman", spearman_contributions, low=-1.0, least_rows=_LEAST_RANKS)
