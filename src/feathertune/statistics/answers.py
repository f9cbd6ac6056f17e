"""Which test rows the models of one method get right, and the score that is made of it.

A score is a weighted mean over strata of test rows of the share of right answers in each. One stratum that holds all
rows makes accuracy. A stratum for each class, all with the same weight, makes balanced accuracy: the mean of the
classes' recalls, which always giving one answer brings to one over the number of classes, however many rows are of
that class. All that `feathertune.statistics.inference` says of either follows from the strata, so it asks nowhere
which score it is.

A class with a single test row shows no variance by itself. All such classes are one stratum together, whose rows vary
by what the classes differ in, too: the variance errs on the large side (collapsed strata, Cochran 1977, section 5A.12).

What the statistics ask of the answers of a method is `Scored`; where labels are numbers, of which none is right,
`feathertune.statistics.ranking` is their like.

Needs numpy alone. Not for scores of one run, which stand in its record, nor for F1: a ratio of sums over rows that the
method chose is no mean of what is right.

Source: Brodersen et al. 2010, The balanced accuracy and its posterior distribution, ICPR, 3121-3124.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from feathertune.records import MetricName


class Stratum(NamedTuple):
    """Test rows that vary in one way.

    Attributes:
        weight: Of the share of right answers among them; the weights of all strata sum to 1.
        rows: Their places, ``(n,)``.
    """

    weight: float
    rows: NDArray[np.intp]


class Scored(ABC):
    """The answers of one method, as the statistics ask for them.

    Args:
        values: What each row adds to the score of each seed, ``(S, N)``.
        strata: Of the rows; the mean of the values over them is the score.

    Attributes:
        exact: Single answers are right or wrong, so that to turn the rows of two methods around is an exact test.
        widest: The largest difference that two scores can have.
    """

    exact: ClassVar[bool]
    widest: ClassVar[float]

    def __init__(self, values: NDArray[Any], strata: tuple[Stratum, ...]) -> None:
        self.values, self.strata = values, strata

    @property
    def n_seeds(self) -> int:
        """S."""
        return len(self.values)

    @property
    def n_rows(self) -> int:
        """N."""
        return int(self.values.shape[1])

    @property
    def rows(self) -> NDArray[np.float64]:
        """The values, averaged over the seeds, ``(N,)``."""
        rows: NDArray[np.float64] = self.values.mean(axis=0)
        return rows

    @property
    def score(self) -> float:
        """The score over all seeds."""
        return sum(weight * float(self.values[:, rows].mean()) for weight, rows in self.strata)

    @property
    def seed_scores(self) -> NDArray[np.float64]:
        """That of each seed, ``(S,)``."""
        scores: NDArray[np.float64] = np.zeros(self.n_seeds)
        for weight, rows in self.strata:
            scores += weight * self.values[:, rows].mean(axis=1)
        return scores

    @property
    @abstractmethod
    def metric(self) -> MetricName:
        """Which score it is."""

    @property
    @abstractmethod
    def informed(self) -> bool:
        """Whether these rows can tell a good method from a bad one."""

    @property
    @abstractmethod
    def whole(self) -> tuple[NDArray[np.floating], int]:
        """The mean over the seeds as whole numbers, ``(N,)``, and by what they are divided.

        Sums of them are exact, so that no order of summation changes a bit.
        """

    @abstractmethod
    def of_rows(self, rows: NDArray[np.integer]) -> Self:
        """The answers to some of the test rows."""

    @abstractmethod
    def scored_like(self, other: Scored) -> bool:
        """Whether both are of the same score of the same rows, so that they can be paired."""


class Answers(Scored):
    """The answers of one method where they are right or wrong.

    Args:
        correct: Whether the prediction is right, ``(S, N)``: S seeds on the same N test rows.
        classes: The class of each test row, ``(N,)``, where the score is balanced accuracy; ``None`` where it is
            accuracy.

    Raises:
        ValueError: If the shape is not ``(S, N)`` with at least one of each, or `classes` are of other rows.
    """

    exact, widest = True, 1.0

    def __init__(self, correct: ArrayLike, classes: NDArray[np.integer] | None = None) -> None:
        self.correct = np.asarray(correct, dtype=np.bool_)
        if self.correct.ndim != 2 or self.correct.size == 0:
            raise ValueError(
                f"Right answers of shape {self.correct.shape} cannot be compared. Expected (S, N), neither of them 0."
            )
        n_rows = self.correct.shape[1]
        if classes is not None and np.shape(classes) != (n_rows,):
            raise ValueError(f"Classes of shape {np.shape(classes)} are not those of {n_rows} test rows.")
        self.classes = classes
        super().__init__(self.correct, _strata(np.zeros(n_rows, np.intp) if classes is None else classes))

    @property
    def metric(self) -> MetricName:
        """Accuracy, or balanced accuracy."""
        return "accuracy" if self.classes is None else "balanced_accuracy"

    @property
    def informed(self) -> bool:
        """One row says something already."""
        return True

    @property
    def whole(self) -> tuple[NDArray[np.floating], int]:
        """Right answers, and the number of seeds."""
        return self.correct.sum(axis=0).astype(np.float32), self.n_seeds

    def of_rows(self, rows: NDArray[np.integer]) -> Answers:
        """The answers to some of the test rows; balanced accuracy is then of the classes that are among these."""
        return Answers(self.correct[:, rows], None if self.classes is None else self.classes[rows])

    def scored_like(self, other: Scored) -> bool:
        """Whether the classes of the rows are the same, or none."""
        if not isinstance(other, Answers) or (self.classes is None) != (other.classes is None):
            return False
        return self.classes is other.classes or np.array_equal(np.asarray(self.classes), np.asarray(other.classes))


# Without more being said, right answers make accuracy.
AnyAnswers = Scored | NDArray[np.bool_]


def as_answers(given: AnyAnswers) -> Scored:
    """Answers as they are; whether answers are right, ``(S, N)``, as those whose score is accuracy."""
    return given if isinstance(given, Scored) else Answers(given)


def paired(one: AnyAnswers, other: AnyAnswers) -> tuple[Scored, Scored]:
    """Two methods on the same rows.

    Raises:
        ValueError: If they are on different rows, or scored differently.
    """
    a, b = as_answers(one), as_answers(other)
    if a.n_rows != b.n_rows:
        raise ValueError(f"{a.n_rows} and {b.n_rows} test rows cannot be paired. Expected the same rows.")
    if not a.scored_like(b):
        raise ValueError("Answers that are scored by other labels cannot be paired. Expected the same of both.")
    return a, b


def _strata(classes: NDArray[np.integer]) -> tuple[Stratum, ...]:
    """One for each class with two rows or more, and one of the rest."""
    _, of_row, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    order = np.argsort(of_row, kind="stable")
    groups = np.split(order, np.cumsum(sizes)[:-1])
    several = [Stratum(1 / len(sizes), rows) for rows in groups if len(rows) > 1]
    single = [rows for rows in groups if len(rows) == 1]
    if single:
        several.append(Stratum(len(single) / len(sizes), np.concatenate(single)))
    return tuple(several)
