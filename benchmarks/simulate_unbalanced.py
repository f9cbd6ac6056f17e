"""Measure coverage and test errors of balanced accuracy in simulated unbalanced studies with known true scores.

Like `simulate_studies`, but rows are drawn per class, and the number of test rows of each class is random (at least
one). Methods differ only in the recalls of the small classes. With one seed, results are about the trained models, so
seeds add no variation.

Writes ``benchmarks/results/simulated-unbalanced.json``, in a few minutes on one core. Results may differ for real
studies: the recalls, the similarity of errors and the effect of seeds on a recall are guesses.
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
# Recall of the largest class and of each other class, for hard texts and for easy texts.
HARD, EASY = (0.97, 0.7), (0.99, 0.95)
# Standard deviation of a recall over seeds.
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
    """Yield both methods' answers in simulated studies; `truths` returns their true scores."""
    small = len(shares) - 1
    lost = gap * len(shares) / small  # recall lost in each small class
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
    """Return both methods' balanced accuracies over all rows and seeds."""
    best = (recalls[0] + (len(shares) - 1) * recalls[1]) / len(shares)
    return best, best - gap


def cell(
    *, shares: tuple[float, ...], recalls: tuple[float, float], rows: int, gap: float, seeds: int, studies: int
) -> dict:
    """Return one case.

    Returns:
        ``covered_*``: how often 95% intervals for a method or a difference covered the true value; mean half-widths.
        ``clear``: how often the difference's p-value was below 0.05, which is wrong if the gap is 0.
        ``as_good``: how often two one-sided tests claimed a difference below the gap, which is wrong.
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
    """Yield all cases."""
    return (cell(**case, seeds=seeds, studies=studies) for case in CELLS for seeds in SEEDS)


if __name__ == "__main__":
    record(RESULT, __doc__, {"spreads": SPREADS}, cells)
