"""Studies of numbers whose truth is known: do the intervals of rank correlations hold it, and what do their tests say?

Labels and predictions are normal together, with what is hard for all methods, for the method, for one prediction, and
the luck of the seed, which moves a model's correlation. Ranks ask for no more than that: any labels and predictions
that rise with these have the same ranks. Or labels are five ratings, so that most rows tie with others. With one seed
all is said of the trained models, so that seeds have no luck there.

Writes ``benchmarks/results/simulated-numbers.json``. Some minutes on one core. Not for real studies: how alike errors
are, and how far seeds move a correlation, are guesses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path

import numpy as np
from scipy import integrate, special
from simulated import how_often, record

from feathertune.statistics.measures import SPEARMAN, Answers

RESULT = Path(__file__).with_name("results") / "simulated-numbers.json"
# Pearson's correlation of the better method under the labels; the worse one's is that less the gap.
BEST = (0.5, 0.9)
GAPS, ROWS, SEEDS = (0.0, 0.02), (50, 200, 1000, 5000), (1, 3)
# The standard deviation of such a correlation over seeds.
SPREAD = 0.01
# Shares of the variance of an error that two seeds of a method have in common, and two methods.
ALIKE_SEEDS, ALIKE_METHODS = 0.8, 0.6
# Where ratings begin, in standard deviations: 1 to 5 stars, most of them high.
RATINGS = (-1.6, -1.0, -0.3, 0.6)


def studies_of(
    rng: np.random.Generator, *, best: float, gap: float, ratings: bool, rows: int, seeds: int, studies: int
) -> Iterator[tuple[Answers, Answers]]:
    """Simulated studies of two methods, one by one."""
    for _ in range(studies):
        merit = rng.standard_normal(rows)
        hard = rng.standard_normal(rows)
        labels = np.searchsorted(RATINGS, merit).astype(np.float64) if ratings else merit
        methods = []
        for correlation in (best, best - gap):
            reached = correlation + (SPREAD * rng.standard_normal((seeds, 1)) if seeds > 1 else 0.0)
            own, chance = rng.standard_normal(rows), rng.standard_normal((seeds, rows))
            error = ALIKE_METHODS**0.5 * hard + (ALIKE_SEEDS - ALIKE_METHODS) ** 0.5 * own
            error = error + (1 - ALIKE_SEEDS) ** 0.5 * chance
            methods.append(SPEARMAN.answers(labels, reached * merit + np.sqrt(1 - reached**2) * error))
        yield methods[0], methods[1]


def truth(correlation: float, *, ratings: bool, seeds: int) -> float:
    """Spearman's correlation over all rows and seeds of a method with this correlation of Pearson's.

    Without ties 6 / pi asin(r / 2) (Pearson 1907); of ratings by quadrature: the mean grade of predictions, given their
    merit m, is the normal distribution function at r m / sqrt(2 - r^2).
    """
    one = _of_ratings if ratings else _without_ties
    if seeds == 1:
        return one(correlation)
    places, weights = np.polynomial.hermite_e.hermegauss(9)
    values = np.array([one(correlation + SPREAD * place) for place in places])
    return float(values @ weights) / math.sqrt(2 * math.pi)


def _without_ties(r: float) -> float:
    return 6 / math.pi * math.asin(r / 2)


def _of_ratings(r: float) -> float:
    ends = (-8.0, *RATINGS, 8.0)
    below = special.ndtr(ends)
    grades = (below[:-1] + below[1:]) / 2 - 0.5
    shares = np.diff(below)

    def grade(merit: float) -> float:
        return float(special.ndtr(r * merit / math.sqrt(2 - r**2)) - 0.5) * math.exp(-(merit**2) / 2)

    means = np.array([integrate.quad(grade, *between)[0] for between in pairwise(ends)]) / math.sqrt(2 * math.pi)
    return float(grades @ means) / math.sqrt(float(shares @ grades**2) / 12)


def cell(*, best: float, gap: float, ratings: bool, rows: int, seeds: int, studies: int) -> dict:
    """One case.

    Returns:
        ``covered_*``: how often 95 % intervals of one method, of a difference, held the truth; half their mean width.
        ``clear``: how often p of the difference was below 0.05, which is wrong where the gap is 0.
        ``as_good``: how often two one-sided tests said that the difference is below what it is, which is wrong, too.
    """
    rng = np.random.default_rng([17, round(100 * best), round(1000 * gap), ratings, rows, seeds])
    truths = [truth(r, ratings=ratings, seeds=seeds) for r in (best, best - gap)]
    apart = truths[0] - truths[1]
    drawn = studies_of(rng, best=best, gap=gap, ratings=ratings, rows=rows, seeds=seeds, studies=studies)
    return {
        "correlation": round(truths[0], 4),
        "difference": round(apart, 4),
        "labels": "five ratings" if ratings else "without ties",
        "rows": rows,
        "seeds": seeds,
        "studies": studies,
        **how_often(drawn, truths, apart=apart, studies=studies),
    }


def cells(studies: int) -> Iterator[dict]:
    """All cases, one by one."""
    for ratings, best, gap, rows, seeds in product((False, True), BEST, GAPS, ROWS, SEEDS):
        yield cell(best=best, gap=gap, ratings=ratings, rows=rows, seeds=seeds, studies=studies)


if __name__ == "__main__":
    record(RESULT, __doc__, {"spread": SPREAD}, cells)
