"""Measure coverage and test errors of rank correlations in simulated regression studies with known true scores.

Labels and predictions are jointly normal. Errors have components shared by all methods, specific to a method, and
specific to a prediction, and each seed shifts a model's correlation. Rank correlations depend only on ranks, so any
monotonic transformation of labels and predictions gives the same result. In a second setting, labels are five ratings,
so most rows are tied. With one seed, results are about the trained models, so seeds add no variation.

Writes ``benchmarks/results/simulated-numbers.json``, in a few minutes on one core. Results may differ for real studies:
the similarity of errors and the effect of seeds on a correlation are guesses.
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
# Pearson correlation of the better method with the labels before ranking; the worse one's is lower by the gap.
BEST = (0.5, 0.9)
GAPS, ROWS, SEEDS = (0.0, 0.02), (50, 200, 1000, 5000), (1, 3)
# Standard deviation of this correlation over seeds.
SPREAD = 0.01
# Share of an error's variance common to two seeds of a method, and to two methods.
ALIKE_SEEDS, ALIKE_METHODS = 0.8, 0.6
# Lower bounds of the ratings in standard deviations: 1 to 5 stars, mostly high.
RATINGS = (-1.6, -1.0, -0.3, 0.6)


def studies_of(
    rng: np.random.Generator, *, best: float, gap: float, ratings: bool, rows: int, seeds: int, studies: int
) -> Iterator[tuple[Answers, Answers]]:
    """Yield simulated studies of two methods."""
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
    """Return a method's Spearman correlation over all rows and seeds, from its Pearson correlation.

    Without ties it is 6 / pi asin(r / 2) (Pearson 1907). For ratings it is computed by quadrature: the mean grade of
    predictions, given their merit m, is the normal distribution function at r m / sqrt(2 - r^2).
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
    """Return one case.

    Returns:
        ``covered_*``: how often 95% intervals for a method or a difference covered the true value; mean half-widths.
        ``clear``: how often the difference's p-value was below 0.05, which is wrong if the gap is 0.
        ``as_good``: how often two one-sided tests claimed a difference smaller than the true one, which is wrong.
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
    """Yield all cases."""
    for ratings, best, gap, rows, seeds in product((False, True), BEST, GAPS, ROWS, SEEDS):
        yield cell(best=best, gap=gap, ratings=ratings, rows=rows, seeds=seeds, studies=studies)


if __name__ == "__main__":
    record(RESULT, __doc__, {"spread": SPREAD}, cells)
