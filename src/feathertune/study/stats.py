"""How sure the numbers of a study are: intervals, paired tests and equivalence, over test rows and seeds.

Two things are random in an accuracy: which rows the test set happens to hold, and the seed of the training.
All seeds and all methods of a study are scored on the same rows, so more seeds do not make the first part
smaller, and a difference of two methods is taken row by row, which removes what is easy or hard for both.

* **One seed**: nothing is known about the spread over seeds, and what is said is about that one trained model.
* **Several seeds**: rows and seeds are crossed and both random. The variance of a mean over S seeds and N rows
  is the variance over rows of the per-row mean, over N, which holds what is chance in a single answer; plus the
  seeds' own variance over S: that of their accuracies, less what chance in single answers adds to it, and not
  below 0. Readers and cases of diagnostic studies are crossed in the same way (Gallas 2006). For a difference,
  the seeds of each method are its own, and the own variances of both are taken together.
* **Critical values**: the seeds' part is known badly (Student's t with S - 1 degrees of freedom; of two methods
  together by Satterthwaite 1946), the rest well (N - 1). Their critical values are averaged with the two variances as
  weights (Cochran & Cox 1957). Satterthwaite's degrees of freedom for the sum are simpler, but with three seeds too
  narrow for one method (92 % where 95 are stated).
* **Tests**: by the same variance, but all by which the seeds' accuracies differ counts as badly known. So p errs on the
  safe side: it can be a little above 0.05 where the interval just leaves 0 out. Of many pairs there are always some
  whose seeds lie close together by luck, and those would look sure.

``benchmarks/simulate_studies.py`` measures the coverage, and the slow tests hold it: 94 to 97 % with three seeds or
five. Two seeds are few: where the seeds' part is the larger one, the intervals of one method then cover some 92 %.

Needs numpy and scipy alone. Not for choosing a model: rows that were used to choose are no longer fresh.

Source: Gallas 2006, Academic Radiology 13, 353-362; Satterthwaite 1946, Biometrics Bulletin 2, 110-114;
Cochran & Cox 1957, Experimental Designs, 2nd ed., 100-102.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

CONFIDENCE = 0.95
RESAMPLES = 2000
# Of the bootstrap: as many resamples at once as keep the row counts below some 20 MB.
_COUNTS_AT_ONCE = 5_000_000
_SMALLEST_P = 1e-300


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


class _Uncertainty(NamedTuple):
    """Of a mean over rows and seeds.

    Attributes:
        variance: Of the mean.
        own_of_seeds: The part of it by which seeds differ, less what chance in single answers makes of that.
        seeds: The variance of the seeds' accuracies over their number, with that chance.
        rows_df: Degrees of freedom by which the rest is known; `seeds_df` those of the seeds.
    """

    variance: float
    own_of_seeds: float
    seeds: float
    rows_df: float
    seeds_df: float

    @property
    def standard_error(self) -> float:
        return math.sqrt(self.variance)

    def margin_of_error(self) -> float:
        """By how many standard errors the 95 % interval goes either way."""
        return self._critical(1 - CONFIDENCE, self.own_of_seeds)

    def p(self, off: float) -> float:
        """Two-sided probability of a mean that is off by `off`: where the critical value is that many errors."""
        errors = abs(off) / self.standard_error
        if not self.seeds:
            return _t_tails(errors, self.rows_df)
        # The critical value is a mean of two, so that p lies between what each would give; a little more for rounding.
        ends = sorted(max(_t_tails(errors, df), _SMALLEST_P) for df in (self.rows_df, self.seeds_df))
        low, high = math.log(ends[0]) - 1e-9, min(0.0, math.log(ends[1]) + 1e-9)

        def too_far(log_p: float) -> float:
            return self._critical(math.exp(log_p), self.seeds) - errors

        return ends[0] if errors == 0 or too_far(low) <= 0 else math.exp(optimize.brentq(too_far, low, high))

    def _critical(self, p: float, badly_known: float) -> float:
        share = min(1.0, badly_known / self.variance)
        return (1 - share) * _t_quantile(p, self.rows_df) + (share * _t_quantile(p, self.seeds_df) if share else 0.0)


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Score interval of a share; it never leaves [0, 1] and is honest near both ends.

    Args:
        successes: How many of the `n` rows are right.
        n: Rows, at least 1.
        confidence: Of the interval, such as 0.95.

    Source: Wilson 1927, J. Am. Stat. Assoc. 22, 209-212.
    """
    return _score_interval(successes / n, n, float(special.ndtri((1 + confidence) / 2)))


def seed_interval(correct: NDArray[np.bool_]) -> Estimate:
    """Accuracy of a method over its seeds, with a 95 % interval.

    Args:
        correct: Whether the prediction is right, ``(S, N)``: S seeds on the same N test rows.

    Returns:
        Mean over all, spread of the seeds, and Wilson's interval: of the N rows where there is one seed, or where
        neither rows nor seeds differ; else of as many rows as would have the variance that the module describes.

    Raises:
        ValueError: If the shape is not ``(S, N)`` with at least one of each.

    Source: the module; for the effective number of rows Franco et al. 2019, J. Surv. Stat. Methodol. 7, 334-364.
    """
    correct = _two_dimensional(correct)
    n_seeds, n_rows = correct.shape
    mean = float(correct.mean())
    sd = _variance(correct.mean(axis=1)) ** 0.5 if n_seeds > 1 else None
    known = _uncertainty(correct.mean(axis=0), [correct])
    if n_seeds == 1 or known.standard_error == 0:
        return Estimate(mean, sd, *wilson(round(mean * n_rows), n_rows))
    effective_rows = mean * (1 - mean) / known.standard_error**2
    return Estimate(mean, sd, *_score_interval(mean, effective_rows, known.margin_of_error()))


def paired_difference(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_]) -> Difference:
    """Accuracy of a minus accuracy of b, paired by test row, with a 95 % interval.

    Args:
        correct_a: Whether a's prediction is right, ``(S_a, N)``.
        correct_b: The same for b, ``(S_b, N)``; row i is the same text in both.

    Returns:
        The difference, within [-1, 1]. With one seed each, p is that of the exact McNemar test, which is about two
        trained models; with more it is as the module says, and never below 0.05 where the interval holds 0. A method
        with one seed adds nothing for its spread over seeds, which is unknown. Where the difference is the same in
        all rows, the half-width is what 0 of N rows leave open (Wilson) and p is that of the exact test.

    Raises:
        ValueError: If the shapes are not ``(S, N)``, or N differs.

    Source: the module; McNemar 1947, Psychometrika 12, 153-157.
    """
    correct_a, correct_b = _paired(correct_a, correct_b)
    rows = correct_a.mean(axis=0) - correct_b.mean(axis=0)
    mean = float(rows.mean())
    known = _uncertainty(rows, [correct_a, correct_b])
    varies = known.standard_error > 0
    half = known.margin_of_error() * known.standard_error if varies else wilson(0, rows.size).high
    if not varies or len(correct_a) == len(correct_b) == 1:
        p = _mcnemar(int((rows > 0).sum()), int((rows < 0).sum()))
    else:
        p = known.p(mean)
    return Difference(mean, max(-1.0, mean - half), min(1.0, mean + half), p)


def equivalence(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_], *, margin: float) -> float:
    """The p of two one-sided tests: small where two accuracies differ by less than the margin, either way.

    Args:
        correct_a: As for `paired_difference`.
        correct_b: The same.
        margin: The difference that still counts as none, as a fraction, above 0.

    Returns:
        The larger of both one-sided p. Where no row tells the two apart, the largest chance of that among methods
        that differ by the margin: ``(1 - margin) ** N``.

    Raises:
        ValueError: If the shapes are not ``(S, N)``, or N differs.

    Source: Schuirmann 1987, J. Pharmacokinet. Biopharm. 15, 657-680.
    """
    correct_a, correct_b = _paired(correct_a, correct_b)
    rows = correct_a.mean(axis=0) - correct_b.mean(axis=0)
    nearest = margin - abs(float(rows.mean()))
    known = _uncertainty(rows, [correct_a, correct_b])
    if known.standard_error == 0:
        return float((1 - margin) ** rows.size) if nearest > 0 else 1.0
    one_sided = known.p(nearest) / 2
    return one_sided if nearest > 0 else 1 - one_sided


def bootstrap_accuracies(answers: Sequence[NDArray[np.bool_]], *, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """Accuracies of all methods on test sets drawn, with replacement, from the rows of this one.

    Each drawn test set is the same for all methods, which is what pairs them. Seeds are averaged and not drawn: so few
    cannot stand for all (of three, a third of the variance would be lost). What follows is about these trained models.

    Args:
        answers: Whether the predictions are right, ``(S, N)`` of each of M methods; S may differ.
        resamples: How many test sets.

    Returns:
        ``(resamples, M)``; the same for the same answers, whatever the number of threads.

    Raises:
        ValueError: If the shapes are not ``(S, N)``, or N differs.

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13; paired by row as in Koehn 2004,
    EMNLP, 388-395.
    """
    first = _two_dimensional(answers[0])
    n_rows = first.shape[1]
    # Right answers are counted in whole numbers, so that no order of summation changes a bit.
    right = np.stack([_paired(first, method)[1].sum(axis=0) for method in answers], axis=1).astype(np.float32)
    rng = np.random.default_rng(0)
    drawn = []
    at_once = max(1, _COUNTS_AT_ONCE // n_rows)
    for start in range(0, resamples, at_once):
        n = min(at_once, resamples - start)
        picked = rng.integers(0, n_rows, (n, n_rows), dtype=np.int32) + n_rows * np.arange(n)[:, None]
        counts = np.bincount(picked.reshape(-1), minlength=n * n_rows).reshape(n, n_rows)
        drawn.append(counts.astype(np.float32) @ right)
    n_seeds = np.array([len(method) for method in answers])
    accuracies: NDArray[np.float64] = np.concatenate(drawn).astype(np.float64) / (n_seeds * n_rows)
    return accuracies


def percentile_interval(draws: NDArray[np.float64]) -> Interval:
    """The 95 % in the middle of bootstrap draws, ``(B,)``."""
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


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


def _paired(correct_a: ArrayLike, correct_b: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    a, b = _two_dimensional(correct_a), _two_dimensional(correct_b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{a.shape[1]} and {b.shape[1]} test rows cannot be paired. Expected the same rows.")
    return a, b


def _variance(values: NDArray[np.float64]) -> float:
    # Equal values can have a variance of 1e-33 by rounding of their mean: that is none.
    return 0.0 if np.ptp(values) == 0 else float(values.var(ddof=1))


def _uncertainty(rows: NDArray[np.float64], methods: Sequence[NDArray[np.bool_]]) -> _Uncertainty:
    """Of the mean of `rows`, ``(N,)``, which were averaged over the seeds of one method, or of two and subtracted."""
    several = [correct for correct in methods if len(correct) > 1]
    accuracies = [_variance(correct.mean(axis=1)) / len(correct) for correct in several]
    chance = sum(_chance(correct) / correct.size for correct in several)
    known_by = sum(part**2 / (len(correct) - 1) for part, correct in zip(accuracies, several, strict=True))
    own_of_seeds = max(0.0, sum(accuracies) - chance)
    return _Uncertainty(
        variance=_variance(rows) / rows.size + own_of_seeds,
        own_of_seeds=own_of_seeds,
        seeds=sum(accuracies),
        rows_df=max(rows.size - 1, 1),
        seeds_df=sum(accuracies) ** 2 / known_by if known_by else math.inf,
    )


def _chance(correct: NDArray[np.bool_]) -> float:
    """Variance of single answers, ``(S, N)``, that neither the row nor the seed explains (mean square of both)."""
    n_seeds, n_rows = correct.shape
    if n_rows == 1:
        return 0.0
    overall = float(correct.mean())
    rows, seeds = correct.mean(axis=0) - overall, correct.mean(axis=1) - overall
    # Answers are 0 or 1, so that their squares need no pass over a table of floats.
    total = overall * (1 - overall) * correct.size
    left = total - n_seeds * float(rows @ rows) - n_rows * float(seeds @ seeds)
    return float(max(0.0, left) / ((n_seeds - 1) * (n_rows - 1)))


def _score_interval(mean: float, n: float, z: float) -> Interval:
    """Wilson's interval of a share of `n` rows, which may be a number of rows that would know as much."""
    scale = 1 + z**2 / n
    centre = (mean + z**2 / (2 * n)) / scale
    half = z * math.sqrt(mean * (1 - mean) / n + (z / (2 * n)) ** 2) / scale
    return Interval(max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half)))


def _t_quantile(p: float, df: float) -> float:
    return float(-special.stdtrit(df, p / 2))


def _t_tails(standard_errors: float, df: float) -> float:
    return float(2 * special.stdtr(df, -standard_errors))


def _mcnemar(only_a: int, only_b: int) -> float:
    return min(1.0, 2 * float(special.bdtr(min(only_a, only_b), only_a + only_b, 0.5))) if only_a + only_b else 1.0
