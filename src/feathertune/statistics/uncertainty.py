"""Variance of a score over test rows and seeds, and its degrees of freedom; `inference` describes the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from feathertune.statistics.measures import Answers, Stratum
from feathertune.statistics.wilson import CONFIDENCE, wilson, z_of

_SMALLEST_P = 1e-300
# A smaller share of a variance is due to rounding of its sums.
_ROUNDING = 1e-12


class Uncertainty(NamedTuple):
    """Variance of a score over rows and seeds, with the degrees of freedom of both parts.

    Attributes:
        own_of_seeds: Part due to differences between seeds, without the chance variation of single answers.
        seeds: Variance of the seeds' scores over their number, including that chance variation.
    """

    variance: float
    own_of_seeds: float
    seeds: float
    rows_df: float
    seeds_df: float

    @property
    def standard_error(self) -> float:
        """Standard error of the score."""
        return math.sqrt(self.variance)

    @property
    def half_width(self) -> float:
        """Half-width of the 95% interval, ignoring the ends of the score's scale."""
        return self.margin_of_error() * self.standard_error if self.variance else 0.0

    def margin_of_error(self) -> float:
        """Return the half-width of the 95% interval in standard errors."""
        return self._critical(1 - CONFIDENCE, self.own_of_seeds)

    def p(self, off: float) -> float:
        """Return the two-sided p of a score that is off by `off`, which is p's critical value in standard errors."""
        errors = abs(off) / self.standard_error
        if not self.seeds:
            return _t_tails(errors, self.rows_df)
        # The critical value is a mean of two, so p is between the p-values of both; a little is added for rounding.
        ends = sorted(max(_t_tails(errors, df), _SMALLEST_P) for df in (self.rows_df, self.seeds_df))
        low, high = math.log(ends[0]) - 1e-9, min(0.0, math.log(ends[1]) + 1e-9)

        def too_far(log_p: float) -> float:
            return self._critical(math.exp(log_p), self.seeds) - errors

        return ends[0] if errors == 0 or too_far(low) <= 0 else math.exp(scipy.optimize.brentq(too_far, low, high))

    def _critical(self, p: float, badly_known: float) -> float:
        share = min(1.0, badly_known / self.variance)
        return (1 - share) * _t_quantile(p, self.rows_df) + (share * _t_quantile(p, self.seeds_df) if share else 0.0)


def uncertainty(rows: NDArray[np.float64], methods: Sequence[Answers]) -> Uncertainty:
    """Return the uncertainty of one method's mean contributions ``(N,)``, or of the difference of two methods'."""
    several = [answers for answers in methods if answers.n_seeds > 1]
    scores = [variance_of(answers.seed_scores) / answers.n_seeds for answers in several]
    chance = sum(
        weight**2 * _chance(answers.values[:, rows]) / (answers.n_seeds * len(rows))
        for answers in several
        for weight, rows in answers.strata
    )
    own_of_seeds = sum(scores) - chance
    if own_of_seeds < _ROUNDING * sum(scores):
        own_of_seeds = 0.0
    of_rows, rows_df = _over_rows(rows, methods[0].strata)
    if not methods[0].measure.exact:
        rows_df = min(rows_df, _df_by_kurtosis(rows))
    return Uncertainty(
        variance=of_rows + own_of_seeds,
        own_of_seeds=own_of_seeds,
        seeds=sum(scores),
        rows_df=rows_df,
        seeds_df=_satterthwaite(scores, [answers.n_seeds - 1 for answers in several]),
    )


def variance_of(values: NDArray[np.float64]) -> float:
    """Return a sample's variance; exactly 0 for equal values, where rounding of their mean could give 1e-33."""
    return 0.0 if np.ptp(values) == 0 else float(values.var(ddof=1))


def _over_rows(rows: NDArray[np.float64], strata: Sequence[Stratum]) -> tuple[float, float]:
    """Return the variance over rows and its degrees of freedom; 0 if the rows of each stratum are equal."""
    sizes = [len(places) for _, places in strata]
    parts = [variance_of(rows[places]) / len(places) for _, places in strata]
    if any(parts):
        parts = [part or _unseen(n) for part, n in zip(parts, sizes, strict=True)]
    parts = [weight**2 * part for part, (weight, _) in zip(parts, strata, strict=True)]
    known_by = [max(n - 1, 1) for n in sizes]
    return sum(parts), _satterthwaite(parts, known_by) if len(parts) > 1 and any(parts) else min(known_by)


def _df_by_kurtosis(rows: NDArray[np.float64]) -> float:
    """Return the degrees of freedom of a variance estimate whose values have heavy tails.

    Source: O'Neill 2014, Some useful moment results in sampling problems, Am. Stat. 68, 282-296.
    """
    deviations = rows - rows.mean()
    variance = float((deviations**2).mean())
    if variance == 0:
        return math.inf
    kurtosis = float((deviations**4).mean()) / variance**2
    return max(1.0, 2 * len(rows) / (kurtosis - 1)) if kurtosis > 1 else math.inf


def _unseen(n: int) -> float:
    """Return the variance of a mean of `n` equal rows, as if Wilson's interval for 0 of n were its own."""
    return (wilson(0, n).high / (2 * z_of())) ** 2


def _satterthwaite(parts: Sequence[float], known_by: Sequence[float]) -> float:
    """Return the degrees of freedom of a sum of variances; infinite if all are 0."""
    weighed = sum(part**2 / df for part, df in zip(parts, known_by, strict=True))
    return sum(parts) ** 2 / weighed if weighed else math.inf


def _chance(values: NDArray[Any]) -> float:
    """Return the variance of single answers ``(S, N)`` that neither row nor seed explains."""
    n_seeds, n_rows = values.shape
    if n_rows == 1:
        return 0.0
    overall = float(values.mean())
    rows, seeds = values.mean(axis=0) - overall, values.mean(axis=1) - overall
    # Right-or-wrong answers are 0 or 1, so their squares need no pass over a table of floats.
    share = overall * (1 - overall)
    total = (share if values.dtype == np.bool_ else float(values.var())) * values.size
    left = total - n_seeds * float(rows @ rows) - n_rows * float(seeds @ seeds)
    return float(max(0.0, left) / ((n_seeds - 1) * (n_rows - 1)))


def _t_quantile(p: float, df: float) -> float:
    return float(-scipy.special.stdtrit(df, p / 2))


def _t_tails(standard_errors: float, df: float) -> float:
    return float(2 * scipy.special.stdtr(df, -standard_errors))
