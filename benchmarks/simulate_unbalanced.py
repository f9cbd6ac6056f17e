"""Unbalanced studies whose truth is known: do the intervals of balanced accuracy hold it, and what do its tests say?

As `simulate_studies`, with the rows of each class drawn by themselves: how many a test set holds of each is chance, too
(at least one). A difference between two methods lies in the recalls of the small classes alone. With one seed all is
said of the trained models, so that seeds have no luck there.

Writes ``benchmarks/results/simulated-unbalanced.json``. Some minutes on one core. Not for real studies: recalls, how
alike errors are, and how far seeds move a recall are guesses.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from answers import right_or_wrong
from simulate_studies import draw
from simulated import how_often, record

from feathertune.statistics.measures import Answers

RESULT = Path(__file__).with_name("results") / "simulated-unbalanced.json"
TWO = (0.95, 0.05)
TEN = (0.73, *9 * (0.03,))
# Recalls of the largest class and of each other one: of hard texts, and of such that nearly all of a class are found.
HARD, EASY = (0.97, 0.7), (0.99, 0.95)
# The standard deviation of such a recall over seeds.
SPREADS = (0.005, 0.03)
CELLS = (
    *({"shares": TWO, "recalls": HARD, "rows": n, "gap": gap} for n in (500, 2000) for gap in (0.0, 0.02, 0.05)),
    *({"shares": TWO, "recalls": HARD, "rows": 200, "gap": gap} for gap in (0.0, 0.05)),
    *({"shares": TWO, "recalls": EASY, "rows": n, "gap": gap} for n in (200, 500) for gap in (0.0, 0.02)),
    *({"shares": TEN, "recalls": HARD, "rows": 500, "gap": gap} for gap in (0.0, 0.05)),
)
SEEDS = (1, 3)


def studies_of(
    rng: np.random.Generator,
    *,
    shares: tuple[float, ...],
    recalls: tuple[float, float],
    rows: int,
    gap: float,
    seeds: int,
    studies: int,
) -> Iterator[tuple[Answers, Answers]]:
    """Simulated studies of two methods, one by one: the answers of both, of which `truths` are the scores."""
    small = len(shares) - 1
    lost = gap * len(shares) / small  # of the recall of each small class
    counts, times = np.unique(np.maximum(rng.multinomial(rows, shares, studies), 1), axis=0, return_counts=True)
    for sizes, n in zip(counts.tolist(), times.tolist(), strict=True):
        drawn = []
        for c, size in enumerate(sizes):
            better, spread = recalls[min(c, 1)], 0.0 if seeds == 1 else SPREADS[min(c, 1)]
            worse = better if c == 0 else better - lost
            drawn.append(draw(rng, n, size, [(better, seeds, spread), (worse, seeds, spread)]))
        classes = np.repeat(np.arange(len(sizes)), sizes)
        for study in zip(*drawn, strict=True):
            a, b = (right_or_wrong(np.concatenate([of[0][m] for of in study], axis=1), classes) for m in (0, 1))
            yield a, b


def truths(*, shares: tuple[float, ...], recalls: tuple[float, float], gap: float) -> tuple[float, float]:
    """The balanced accuracies of both methods over all rows and seeds."""
    best = (recalls[0] + (len(shares) - 1) * recalls[1]) / len(shares)
    return best, best - gap


def cell(
    *, shares: tuple[float, ...], recalls: tuple[float, float], rows: int, gap: float, seeds: int, studies: int
) -> dict:
    """One case.

    Returns:
        ``covered_*``: how often 95 % intervals of one method, of a difference, held the truth; half their mean width.
        ``clear``: how often p of the difference was below 0.05, which is wrong where the gap is 0.
        ``as_good``: how often two one-sided tests said that the difference is below the gap, which is wrong, too.
    """
    rng = np.random.default_rng([13, len(shares), round(100 * recalls[1]), rows, round(1000 * gap), seeds])
    drawn = studies_of(rng, shares=shares, recalls=recalls, rows=rows, gap=gap, seeds=seeds, studies=studies)
    return {
        "classes": len(shares),
        "smallest_share": min(shares),
        "recalls": recalls,
        "rows": rows,
        "gap": gap,
        "seeds": seeds,
        "studies": studies,
        **how_often(drawn, truths(shares=shares, recalls=recalls, gap=gap), apart=gap, studies=studies),
    }


def cells(studies: int) -> Iterator[dict]:
    """All cases, one by one."""
    return (cell(**case, seeds=seeds, studies=studies) for case in CELLS for seeds in SEEDS)


if __name__ == "__main__":
    record(RESULT, __doc__, {"spreads": SPREADS}, cells)
