"""Intervals, paired tests and equivalence over test rows and seeds, which are crossed and both random.

* **Variance** of a mean over S seeds and N rows: the variance of the per-row mean over N, plus the seeds' own variance
  over S. The latter is the variance of the seeds' scores minus the chance variation of single answers, at least 0.
  With one seed, results apply to that model only.
* **Critical values** of rows and seeds (S - 1 degrees of freedom; for two methods Satterthwaite's) are averaged with
  the two variances as weights. With degrees of freedom of the sum, coverage would be only 92% with three seeds.
* **Tests** treat the seeds' whole spread as poorly known, so p can be slightly above 0.05 when the interval excludes 0.
* **Strata** (balanced accuracy): variances add up by squared weight; a stratum of equal rows uses Wilson's interval.

Source: Gallas 2006, Academic Radiology 13, 353-362; Satterthwaite 1946, Biometrics Bulletin 2, 110-114;
Cochran & Cox 1957, Experimental Designs, 2nd ed., 100-102; Cochran 1977, Sampling Techniques, 3rd ed., 95-96 (strata).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from feathertune.statistics.measures import Answers, Stratum, check_paired
from feathertune.statistics.uncertainty import uncertainty, variance_of
from feathertune.statistics.wilson import CONFIDENCE, Interval, score_interval, wilson

RESAMPLES = 2000
# Row counts drawn at once, to keep them below about 20 MB.
_COUNTS_AT_ONCE = 5_000_000
# The exact test lists up to this many sums; beyond that the normal distribution is close enough.
_MOST_SUMS = 1_000_000


class Estimate(NamedTuple):
    """A mean score with its interval; `sd` is the spread of the seeds, None for one seed."""

    mean: float
    sd: float | None
    low: float
    high: float


class Difference(NamedTuple):
    """A difference of two scores with its interval and its two-sided p."""

    mean: float
    low: float
    high: float
    p: float


def seed_interval(answers: Answers) -> Estimate:
    """Return the score of a method over its seeds, with a 95% interval.

    Accuracy of one seed has Wilson's interval; other shares have it for the number of rows with the same variance.

    Source: Franco et al. 2019, J. Surv. Stat. Methodol. 7, 334-364; Zou & Donner 2008, Stat. Med. 27, 1693-1702;
    Fieller, Hartley & Pearson 1957, Biometrika 44, 470-481 (rank correlation).
    """
    mean, measure = answers.score, answers.measure
    sd = variance_of(answers.seed_scores) ** 0.5 if answers.n_seeds > 1 else None
    known = uncertainty(answers.rows, [answers])
    if measure.padding is not None:
        padded = answers.padded()
        known = max(known, uncertainty(padded.rows, [padded]), key=lambda found: found.half_width)
    if measure.low < 0:
        return Estimate(mean, sd, *_fisher_interval(answers, known.half_width))
    alone = len(answers.strata) == 1 and answers.n_seeds == 1
    if measure.exact and (known.standard_error == 0 or alone):
        return Estimate(mean, sd, *_combined_wilson(answers))
    if mean in (0, 1):
        return Estimate(mean, sd, *_around(mean, max(known.half_width, _unseen(answers)), 0.0))
    effective_rows = mean * (1 - mean) / known.standard_error**2
    return Estimate(mean, sd, *score_interval(mean, effective_rows, known.margin_of_error()))


def paired_difference(a: Answers, b: Answers) -> Difference:
    """Return the score of a minus that of b, paired by test row, with a 95% interval.

    With one seed each and right-or-wrong answers, p is exact (McNemar; with strata, a sign test within each). Otherwise
    p is never below 0.05 if the interval contains 0. If rows do not vary, the half-width is Wilson's for 0 of N.

    Source: McNemar 1947, Psychometrika 12, 153-157; Pitman 1937, Suppl. J. R. Stat. Soc. 4, 119-130.
    """
    check_paired(a, b)
    rows, widest = a.rows - b.rows, 1.0 - a.measure.low
    mean = _mean(rows, a.strata)
    if not a.informed:
        return Difference(mean, -widest, widest, 1.0)
    known = uncertainty(rows, [a, b])
    varies = known.standard_error > 0
    half = known.half_width if varies else _unseen(a)
    exact = a.measure.exact and a.n_seeds == b.n_seeds == 1
    p = known.p(mean) if varies and not exact else _sign_test(rows, a.strata)
    return Difference(mean, max(-widest, mean - half), min(widest, mean + half), p)


def equivalence(a: Answers, b: Answers, *, margin: float) -> float:
    """Return the larger p of two one-sided tests: small if two scores differ by less than the margin, either way.

    If no row separates the two, p is ``(1 - margin) ** N``; with strata, N is the smallest ratio of size to weight.

    Source: Schuirmann 1987, J. Pharmacokinet. Biopharm. 15, 657-680.
    """
    check_paired(a, b)
    if not a.informed:
        return 1.0
    rows = a.rows - b.rows
    nearest = margin - abs(_mean(rows, a.strata))
    known = uncertainty(rows, [a, b])
    if known.standard_error == 0:
        alike = min(round(len(places) / weight) for weight, places in a.strata)
        return float((1 - margin) ** alike) if nearest > 0 else 1.0
    one_sided = known.p(nearest) / 2
    return one_sided if nearest > 0 else 1 - one_sided


def bootstrap_scores(answers: Sequence[Answers], *, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """Return the scores ``(resamples, M)`` of M methods on test sets drawn, with replacement, from these rows.

    Each drawn set is the same for all methods, and is drawn by stratum. Seeds are averaged, not drawn. Scores that are
    ratios over all rows are approximated to first order. The same answers give the same draws.

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13; Koehn 2004, EMNLP, 388-395.
    """
    first = answers[0]
    for other in answers[1:]:
        check_paired(first, other)
    whole = [method.whole for method in answers]
    counted, per = np.stack([values for values, _ in whole], axis=1), np.array([parts for _, parts in whole])
    rng = np.random.default_rng(0)
    drawn = []
    at_once = max(1, _COUNTS_AT_ONCE // first.n_rows)
    for start in range(0, resamples, at_once):
        n = min(at_once, resamples - start)
        scores = np.zeros((n, len(answers)))
        for weight, rows in first.strata:
            scores += weight * (_drawn(counted[rows], n, rng) / (per * len(rows)))
        drawn.append(scores)
    return np.concatenate(drawn)


def percentile_interval(draws: NDArray[np.float64]) -> Interval:
    """Return the middle 95% of bootstrap draws, ``(B,)``."""
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct two-sided p-values for the number of tests (step-down Bonferroni), in the order of the input.

    Source: Holm 1979, Scand. J. Stat. 6, 65-70.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(np.minimum(p[order] * np.arange(p.size, 0, -1), 1.0))
    return [float(value) for value in corrected]


def _mean(rows: NDArray[np.float64], strata: Sequence[Stratum]) -> float:
    return sum(weight * float(rows[places].mean()) for weight, places in strata)


def _combined_wilson(answers: Answers) -> Interval:
    mean, below, above = answers.score, [], []
    for weight, rows in answers.strata:
        share = float(answers.values[:, rows].mean())
        low, high = wilson(round(share * len(rows)), len(rows))
        if len(answers.strata) == 1:
            return Interval(low, high)
        below.append(weight * (share - low))
        above.append(weight * (high - share))
    return Interval(max(0.0, mean - math.hypot(*below)), min(1.0, mean + math.hypot(*above)))


def _fisher_interval(answers: Answers, half: float) -> Interval:
    """Return the interval of a correlation through atanh: near 1, it extends much further down than up.

    If no row contradicts a perfect correlation, a share w of unrelated rows would cost about w, so the half-width is
    Wilson's for 0 of N.
    """
    mean = answers.score
    if not answers.informed:
        return Interval(-1.0, 1.0)
    if half == 0 or abs(mean) >= 1:
        return _around(mean, max(half, _unseen(answers)) if mean else 0.0, -1.0)
    z, half_z = math.atanh(mean), half / (1 - mean**2)
    return Interval(math.tanh(z - half_z), math.tanh(z + half_z))


def _around(mean: float, half: float, low: float) -> Interval:
    return Interval(max(low, mean - half), min(1.0, mean + half))


def _unseen(answers: Answers) -> float:
    """Return the half-width that remains possible if no row shows a difference."""
    return math.hypot(*(weight * wilson(0, len(rows)).high for weight, rows in answers.strata))


def _drawn(counted: NDArray[np.floating], n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return sums, ``(n, M)``, over `n` sets of rows drawn from all, ``(N, M)``."""
    n_rows = len(counted)
    picked = rng.integers(0, n_rows, (n, n_rows), dtype=np.int32) + n_rows * np.arange(n)[:, None]
    counts = np.bincount(picked.reshape(-1), minlength=n * n_rows).reshape(n, n_rows)
    sums: NDArray[np.float64] = (counts.astype(counted.dtype) @ counted).astype(np.float64)
    return sums


def _sign_test(rows: NDArray[np.float64], strata: Sequence[Stratum]) -> float:
    """Return the exact two-sided p of row differences ``(N,)`` if signs were coin tosses; one stratum: McNemar's."""
    up: Counter[float] = Counter()
    down: Counter[float] = Counter()
    for weight, places in strata:
        up[weight / len(places)] += int((rows[places] > 0).sum())
        down[weight / len(places)] += int((rows[places] < 0).sum())
    differing = {unit: up[unit] + down[unit] for unit in up if up[unit] + down[unit]}
    if not differing:
        return 1.0
    if len(differing) == 1:
        ((unit, n),) = differing.items()
        return min(1.0, 2 * float(scipy.special.bdtr(min(up[unit], down[unit]), n, 0.5)))
    found = abs(sum(unit * (up[unit] - down[unit]) for unit in differing))
    if math.prod(n + 1 for n in differing.values()) > _MOST_SUMS:
        error = math.sqrt(sum(n * unit**2 for unit, n in differing.items()))
        return float(2 * scipy.special.ndtr(-found / error))
    sums, chances = np.zeros(1), np.ones(1)
    for unit, n in differing.items():
        k = np.arange(n + 1)
        gammaln = scipy.special.gammaln
        chance = np.exp(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1) - n * math.log(2))
        sums = (sums[:, None] + unit * (2 * k - n)).reshape(-1)
        chances = (chances[:, None] * chance).reshape(-1)
    return min(1.0, float(chances[np.abs(sums) >= found - 1e-12].sum()))
