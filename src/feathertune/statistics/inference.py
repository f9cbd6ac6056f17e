"""How sure the numbers of a study are: intervals, paired tests and equivalence, over test rows and seeds.

Two things are random in a score: which rows the test set happens to hold, and the seed of the training.
All seeds and all methods of a study are scored on the same rows, so more seeds do not make the first part
smaller, and a difference of two methods is taken row by row, which removes what is easy or hard for both.

* **One seed**: nothing is known about the spread over seeds, and what is said is about that one trained model.
* **Several seeds**: rows and seeds are crossed and both random. The variance of a mean over S seeds and N rows
  is the variance over rows of the per-row mean, over N, which holds what is chance in a single answer; plus the
  seeds' own variance over S: that of their scores, less what chance in single answers adds to it, and not
  below 0. Readers and cases of diagnostic studies are crossed in the same way (Gallas 2006). For a difference,
  the seeds of each method are its own, and the own variances of both are taken together.
* **Critical values**: the seeds' part is known badly (Student's t with S - 1 degrees of freedom; of two methods
  together by Satterthwaite 1946), the rest well (N - 1). Their critical values are averaged with the two variances as
  weights (Cochran & Cox 1957). Satterthwaite's degrees of freedom for the sum are simpler, but with three seeds too
  narrow for one method (92 % where 95 are stated).
* **Tests**: by the same variance, but all by which the seeds' accuracies differ counts as badly known. So p errs on the
  safe side: it can be a little above 0.05 where the interval just leaves 0 out. Of many pairs there are always some
  whose seeds lie close together by luck, and those would look sure.
* **Balanced accuracy** is a mean over classes, so each class is a stratum (`feathertune.statistics.answers`): the
  variance is the sum over strata of what each has by itself, by its squared weight, and known by Satterthwaite's
  degrees of freedom, some n - 1 where one class has n rows and the other many. Up to n / (n - 1) that is the mean
  square of the score's influence function, N / (C n_c) (right_i - recall_c) for row i of class c, over N (delta
  method: Hampel 1974). A stratum whose rows are all alike counts with what Wilson's interval leaves open there: twelve
  of twelve is not certainty.
* **Rank correlation** is of all rows together. Each row stands for the correlation plus its influence on it
  (`feathertune.statistics.ranking`), and from there all is as above. The interval of one method goes through Fisher's
  z, that of a difference does not, and no test is exact.

``benchmarks/simulate_studies.py`` measures the coverage, and the slow tests hold it: 94 to 97 % with three seeds or
five. Two seeds are few: where the seeds' part is the larger one, the intervals of one method then cover some 92 %.
``benchmarks/simulate_unbalanced.py`` does so of balanced accuracy: 94 to 97 %, and more where a class has some ten
rows or is nearly all found. ``benchmarks/simulate_numbers.py`` does so of rank correlations:
94 to 97 % from 200 rows on, and up to 99 % of a difference with 50.

Needs numpy and scipy alone. Not for choosing a model: rows that were used to choose are no longer fresh.

Source: Gallas 2006, Academic Radiology 13, 353-362; Satterthwaite 1946, Biometrics Bulletin 2, 110-114;
Cochran & Cox 1957, Experimental Designs, 2nd ed., 100-102; Cochran 1977, Sampling Techniques, 3rd ed., 95-96 (strata);
Hampel 1974, J. Am. Stat. Assoc. 69, 383-393.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from feathertune.statistics.answers import AnyAnswers, Scored, Stratum, as_answers, paired
from feathertune.statistics.ranking import Ranking, fisher_interval
from feathertune.statistics.uncertainty import uncertainty, variance_of
from feathertune.statistics.wilson import CONFIDENCE, Interval, score_interval, wilson

RESAMPLES = 2000
# Of the bootstrap: as many resamples at once as keep the row counts below some 20 MB.
_COUNTS_AT_ONCE = 5_000_000
# Of the exact test: so many sums are listed; of more the normal distribution knows enough.
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


def seed_interval(answers: AnyAnswers) -> Estimate:
    """The score of a method over its seeds, with a 95 % interval.

    Args:
        answers: S seeds on the same N test rows; whether they are right, ``(S, N)``, means accuracy.

    Returns:
        Mean over all, spread of the seeds, and Wilson's interval. Of accuracy it is that of the N rows where there is
        one seed, or where neither rows nor seeds differ; else of as many rows as would have the variance that the
        module describes. Of balanced accuracy it is the latter, and where all answers of each class are alike, that of
        each recall, put together as if they were alone. Of a rank correlation it is Fisher's.

    Raises:
        ValueError: If the shape is not ``(S, N)`` with at least one of each.

    Source: the module; for the effective number of rows Franco et al. 2019, J. Surv. Stat. Methodol. 7, 334-364; for
    intervals put together Zou & Donner 2008, Stat. Med. 27, 1693-1702.
    """
    answers = as_answers(answers)
    mean, accuracy = answers.score, len(answers.strata) == 1
    sd = variance_of(answers.seed_scores) ** 0.5 if answers.n_seeds > 1 else None
    known = uncertainty(answers.rows, [answers])
    if isinstance(answers, Ranking):
        half = known.margin_of_error() * known.standard_error if known.standard_error else 0.0
        return Estimate(mean, sd, *fisher_interval(answers, half))
    if known.standard_error == 0 or (accuracy and answers.n_seeds == 1):
        return Estimate(mean, sd, *_put_together(answers))
    effective_rows = mean * (1 - mean) / known.standard_error**2
    return Estimate(mean, sd, *score_interval(mean, effective_rows, known.margin_of_error()))


def paired_difference(answers_a: AnyAnswers, answers_b: AnyAnswers) -> Difference:
    """The score of a minus that of b, paired by test row, with a 95 % interval.

    Args:
        answers_a: Those of a, ``(S_a, N)``; as for `seed_interval`.
        answers_b: Those of b, ``(S_b, N)``; row i is the same text in both.

    Returns:
        The difference, within [-1, 1], or [-2, 2] of rank correlations. With one seed each, p is that of an exact test,
        which is about two trained models: of McNemar's, and of balanced accuracy of one that turns the answers of rows
        on which the two differ around, in each class by itself; rank correlations have none. With more seeds it is as
        the module says, and never below 0.05 where the interval holds 0. A method with one seed adds nothing for its
        spread over seeds, which is unknown. Where the difference is the same in all rows of each class, the half-width
        is what 0 of its rows leave open (Wilson), and p is that of the exact test.

    Raises:
        ValueError: If the shapes are not ``(S, N)``, or N differs.

    Source: the module; McNemar 1947, Psychometrika 12, 153-157; Pitman 1937, Suppl. J. R. Stat. Soc. 4, 119-130.
    """
    a, b = paired(answers_a, answers_b)
    rows, widest = a.rows - b.rows, a.widest
    mean = _mean(rows, a.strata)
    if not a.informed:
        return Difference(mean, -widest, widest, 1.0)
    known = uncertainty(rows, [a, b])
    varies = known.standard_error > 0
    half = known.margin_of_error() * known.standard_error if varies else _none_of(a.strata)
    exact = a.exact and a.n_seeds == b.n_seeds == 1
    p = known.p(mean) if varies and not exact else _turned_around(rows, a.strata)
    return Difference(mean, max(-widest, mean - half), min(widest, mean + half), p)


def equivalence(answers_a: AnyAnswers, answers_b: AnyAnswers, *, margin: float) -> float:
    """The p of two one-sided tests: small where two scores differ by less than the margin, either way.

    Args:
        answers_a: As for `paired_difference`.
        answers_b: The same.
        margin: The difference that still counts as none, as a fraction or of a correlation, above 0.

    Returns:
        The larger of both one-sided p. Where no row tells the two apart, the largest chance of that among methods
        that differ by the margin: ``(1 - margin) ** N``. Of balanced accuracy N is then the rows of the smallest class
        by the number of classes: the chance is no larger.

    Raises:
        ValueError: If the shapes are not ``(S, N)``, or N differs.

    Source: Schuirmann 1987, J. Pharmacokinet. Biopharm. 15, 657-680.
    """
    a, b = paired(answers_a, answers_b)
    if not a.informed:
        return 1.0
    rows = a.rows - b.rows
    nearest = margin - abs(_mean(rows, a.strata))
    known = uncertainty(rows, [a, b])
    if known.standard_error == 0:
        like = min(round(len(places) / weight) for weight, places in a.strata)
        return float((1 - margin) ** like) if nearest > 0 else 1.0
    one_sided = known.p(nearest) / 2
    return one_sided if nearest > 0 else 1 - one_sided


def bootstrap_scores(answers: Sequence[AnyAnswers], *, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """Scores (whichever leads) of all methods on test sets drawn, with replacement, from the rows of this one.

    Rank correlations are to first order: the means of what the drawn rows add (`feathertune.statistics.ranking`).

    Each drawn test set is the same for all methods, which is what pairs them. Of balanced accuracy each class is drawn
    from by itself, as many rows as it has: no drawn set lacks one. Seeds are averaged and not drawn: so few
    cannot stand for all (of three, a third of the variance would be lost). What follows is about these trained models.

    Args:
        answers: Those of each of M methods, ``(S, N)``; S may differ.
        resamples: How many test sets.

    Returns:
        ``(resamples, M)``; the same for the same answers, whatever the number of threads.

    Raises:
        ValueError: If the shapes are not ``(S, N)``, or N differs.

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13; paired by row as in Koehn 2004,
    EMNLP, 388-395.
    """
    first = as_answers(answers[0])
    methods = [paired(first, method)[1] for method in answers]
    whole = [method.whole for method in methods]
    counted, per = np.stack([values for values, _ in whole], axis=1), np.array([parts for _, parts in whole])
    rng = np.random.default_rng(0)
    drawn = []
    at_once = max(1, _COUNTS_AT_ONCE // first.n_rows)
    for start in range(0, resamples, at_once):
        n = min(at_once, resamples - start)
        scores = np.zeros((n, len(methods)))
        for weight, rows in first.strata:
            of_rows = counted[rows]
            scores += weight * (_drawn(of_rows, n, rng) / (per * len(rows)))
        drawn.append(scores)
    return np.concatenate(drawn)


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


def _mean(rows: NDArray[np.float64], strata: Sequence[Stratum]) -> float:
    return sum(weight * float(rows[places].mean()) for weight, places in strata)


def _put_together(answers: Scored) -> Interval:
    """Wilson's interval of each stratum, put together (MOVER); of one stratum it is that."""
    mean, below, above = answers.score, [], []
    for weight, rows in answers.strata:
        share = float(answers.values[:, rows].mean())
        low, high = wilson(round(share * len(rows)), len(rows))
        if len(answers.strata) == 1:
            return Interval(low, high)
        below.append(weight * (share - low))
        above.append(weight * (high - share))
    return Interval(max(0.0, mean - math.hypot(*below)), min(1.0, mean + math.hypot(*above)))


def _none_of(strata: Sequence[Stratum]) -> float:
    """What rows leave open of a difference none of which shows any."""
    return math.hypot(*(weight * wilson(0, len(rows)).high for weight, rows in strata))


def _drawn(counted: NDArray[np.floating], n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Sums, ``(n, M)``, over `n` sets of rows drawn from all, ``(N, M)``."""
    n_rows = len(counted)
    picked = rng.integers(0, n_rows, (n, n_rows), dtype=np.int32) + n_rows * np.arange(n)[:, None]
    counts = np.bincount(picked.reshape(-1), minlength=n * n_rows).reshape(n, n_rows)
    sums: NDArray[np.float64] = (counts.astype(counted.dtype) @ counted).astype(np.float64)
    return sums


def _turned_around(rows: NDArray[np.float64], strata: Sequence[Stratum]) -> float:
    """Two-sided p of the difference among all that turning the rows around, each by itself, would make of it.

    Args:
        rows: The difference of each row, ``(N,)``; only its sign counts. Rows of one weight are one binomial, so that
            of one stratum this is McNemar's exact test.
        strata: Of the rows.
    """
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
        return min(1.0, 2 * float(special.bdtr(min(up[unit], down[unit]), n, 0.5)))
    found = abs(sum(unit * (up[unit] - down[unit]) for unit in differing))
    if math.prod(n + 1 for n in differing.values()) > _MOST_SUMS:
        error = math.sqrt(sum(n * unit**2 for unit, n in differing.items()))
        return float(2 * special.ndtr(-found / error))
    sums, chances = np.zeros(1), np.ones(1)
    for unit, n in differing.items():
        k = np.arange(n + 1)
        chance = np.exp(special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1) - n * math.log(2))
        sums = (sums[:, None] + unit * (2 * k - n)).reshape(-1)
        chances = (chances[:, None] * chance).reshape(-1)
    return min(1.0, float(chances[np.abs(sums) >= found - 1e-12].sum()))
