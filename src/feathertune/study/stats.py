"""How sure the numbers of a study are: intervals and paired tests over test rows and seeds.

Two things are random in an accuracy: which rows the test set happens to hold, and the seed of the training.
All seeds and all methods of a study are scored on the same rows, so more seeds do not make the first part
smaller, and a difference of two methods is taken row by row, which removes what is easy or hard for both.

* **One seed**: nothing is known about the spread over seeds, and the intervals are about that one trained
  model.
* **Several seeds**: the variance of a mean is the variance over rows of the per-row mean, over N, plus the
  variance of the seeds' accuracies, over S; Student's t with the degrees of freedom of Satterthwaite (1946).
  What is chance in a single answer is in both terms, so that the intervals, those of differences above all,
  are rather too wide than too narrow. Taking it out of the second term makes them too narrow with three
  seeds, where the spread over seeds is badly known. The slow tests hold the coverage by simulation.

Needs numpy and scipy alone. Not for choosing a model: rows that were used to choose are no longer fresh.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """Both ends of a confidence interval."""

    low: float
    high: float


class Estimate(NamedTuple):
    """A mean accuracy with its interval; `sd` is the spread of the seeds, None for one seed."""

    mean: float
    sd: float | None
    low: float
    high: float


class Difference(NamedTuple):
    """A difference of two accuracies with its interval and its two-sided p."""

    mean: float
    low: float
    high: float
    p: float


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Score interval of a share; it never leaves [0, 1] and is honest near both ends.

    Args:
        successes: How many of the `n` rows are right.
        n: Rows, at least 1.
        confidence: Of the interval, such as 0.95.

    Source: Wilson 1927, J. Am. Stat. Assoc. 22, 209-212.
    """
    ends = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return Interval(float(ends.low), float(ends.high))


def seed_interval(correct: NDArray[np.bool_]) -> Estimate:
    """Accuracy of a method over its seeds, with a 95 % interval.

    Args:
        correct: Whether the prediction is right, ``(S, N)``: S seeds on the same N test rows.

    Returns:
        Mean over all, spread of the seeds, and the interval as the module says, within [0, 1]. Wilson's
        interval where there is one seed, or where neither rows nor seeds differ.

    Raises:
        ValueError: If the shape is not ``(S, N)`` with at least one of each.
    """
    correct = _two_dimensional(correct)
    n_seeds, n_rows = correct.shape
    mean = float(correct.mean())
    by_seed = correct.mean(axis=1)
    sd = _variance(by_seed) ** 0.5 if n_seeds > 1 else None
    variance, df = _combined([(_variance(correct.mean(axis=0)) / n_rows, n_rows - 1), _seed_part(by_seed)])
    if n_seeds == 1 or variance == 0:
        return Estimate(mean, sd, *wilson(round(mean * n_rows), n_rows))
    half = _quantile(df) * variance**0.5
    return Estimate(mean, sd, max(0.0, mean - half), min(1.0, mean + half))


def paired_difference(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_]) -> Difference:
    """Accuracy of a minus accuracy of b, paired by test row, with a 95 % interval.

    Args:
        correct_a: Whether a's prediction is right, ``(S_a, N)``.
        correct_b: The same for b, ``(S_b, N)``; row i is the same text in both.

    Returns:
        The difference, within [-1, 1]. With one seed each, p is that of the exact McNemar test, else that of
        the t statistic. A method with one seed adds nothing for its spread over seeds, which is unknown.
        Where the difference is the same in all rows, the half-width is what 0 of N rows leave open (Wilson)
        and p is that of the exact test.

    Raises:
        ValueError: If the shapes are not ``(S, N)``, or N differs.

    Source: McNemar 1947, Psychometrika 12, 153-157; Satterthwaite 1946, Biometrics Bulletin 2, 110-114.
    """
    correct_a, correct_b = _two_dimensional(correct_a), _two_dimensional(correct_b)
    n_rows = correct_a.shape[1]
    if n_rows != correct_b.shape[1]:
        raise ValueError(f"{n_rows} and {correct_b.shape[1]} test rows cannot be paired. Expected the same rows.")
    rows = correct_a.mean(axis=0) - correct_b.mean(axis=0)
    mean = float(rows.mean())
    variance, df = _combined(
        [
            (_variance(rows) / n_rows, n_rows - 1),
            *(_seed_part(c.mean(axis=1)) for c in (correct_a, correct_b)),
        ]
    )
    half = _quantile(df) * variance**0.5 if variance > 0 else wilson(0, n_rows).high
    if variance == 0 or len(correct_a) == len(correct_b) == 1:
        p = _mcnemar(int((rows > 0).sum()), int((rows < 0).sum()))
    else:
        p = float(2 * stats.t.sf(abs(mean) / variance**0.5, df))
    return Difference(mean, max(-1.0, mean - half), min(1.0, mean + half), p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for the number of tests made (step-down Bonferroni).

    Args:
        p_values: Two-sided p of each test.

    Returns:
        Each at least as large as it was and at most 1; the order of the input.

    Source: Holm 1979, Scand. J. Stat. 6, 65-70.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(np.minimum(p[order] * np.arange(p.size, 0, -1), 1.0))
    return [float(value) for value in corrected]


def _two_dimensional(correct: ArrayLike) -> NDArray[np.bool_]:
    array = np.asarray(correct, dtype=np.bool_)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(
            f"Right answers of shape {array.shape} cannot be compared. Expected (S, N), neither of them 0."
        )
    return array


def _variance(values: NDArray[np.float64]) -> float:
    # Equal values can have a variance of 1e-33 by rounding of their mean: that is none.
    return 0.0 if np.ptp(values) == 0 else float(values.var(ddof=1))


def _seed_part(by_seed: NDArray[np.float64]) -> tuple[float, int]:
    return _variance(by_seed) / by_seed.size, by_seed.size - 1


def _combined(parts: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """Sum of variances, and its degrees of freedom by Satterthwaite; infinite where the sum is 0."""
    total = sum(variance for variance, _ in parts)
    spread = sum(variance**2 / df for variance, df in parts if variance > 0)
    return total, total**2 / spread if spread > 0 else float("inf")


def _quantile(df: float) -> float:
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, df))


def _mcnemar(only_a: int, only_b: int) -> float:
    return float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
