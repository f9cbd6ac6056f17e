"""Measure the coverage of macro F1 and Matthews correlation in simulated studies of two methods with known true scores.

The studies are those of `simulate_unbalanced`, plus balanced ones. A wrong row is predicted as the largest class, and a
wrong row of that class as each other class in turn. A method's true score is the mean over its seeds' true recalls.

Writes ``benchmarks/results/simulated-confusion.json``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import simulate_unbalanced as unbalanced
from simulate_studies import draw
from simulated import how_often, record

from feathertune.statistics.measures import Answers
from feathertune.tasks import SCORES

RESULT = Path(__file__).with_name("results") / "simulated-confusion.json"
EVEN = (0.25, 0.25, 0.25, 0.25)
METRICS = ("macro_f1", "mcc")
CASES = (
    *({"shares": EVEN, "recalls": (0.9, 0.85), "rows": n, "gap": gap} for n in (200, 500, 2000) for gap in (0.0, 0.05)),
    *({"shares": unbalanced.TWO, "recalls": unbalanced.HARD, "rows": n, "gap": 0.05} for n in (200, 500, 2000)),
    *({"shares": unbalanced.TWO, "recalls": unbalanced.HARD, "rows": n, "gap": 0.0} for n in (200, 500, 2000)),
    *({"shares": unbalanced.TWO, "recalls": unbalanced.EASY, "rows": n, "gap": 0.0} for n in (200, 500)),
    *(
        {"shares": unbalanced.TEN, "recalls": unbalanced.HARD, "rows": n, "gap": gap}
        for n in (500, 2000)
        for gap in (0.0, 0.05)
    ),
)
_TRUE_SEEDS = 20_000


def confused(correct: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return predictions ``(S, N)`` for correct and wrong rows."""
    n_classes = classes.max() + 1
    wrong = np.where(classes == 0, 1 + np.arange(len(classes)) % max(1, n_classes - 1), 0)
    return np.where(correct, classes, wrong)


def truth(metric: str, shares: tuple[float, ...], recalls: np.ndarray) -> float:
    """Return the mean true score over seeds, from their true recalls ``(R, C)``."""
    scores = []
    for recall in recalls:
        matrix = np.zeros((len(shares), len(shares)))
        for c, share in enumerate(shares):
            matrix[c, c] = share * recall[c]
            others = [0] if c else range(1, len(shares))
            for other in others:
                matrix[c, other] += share * (1 - recall[c]) / len(others)
        has, given, right = matrix.sum(axis=1), matrix.sum(axis=0), np.diag(matrix)
        if metric == "macro_f1":
            scores.append(np.mean(2 * right / (has + given)))
        else:
            scores.append((right.sum() - has @ given) / np.sqrt((1 - has @ has) * (1 - given @ given)))
    return float(np.mean(scores))


def true_recalls(
    rng: np.random.Generator, shares: tuple[float, ...], recalls: tuple[float, float], lost: float, seeds: int
) -> np.ndarray:
    """Return trained models' recalls ``(R, C)``: exact for one seed, otherwise drawn as in the studies."""
    means = np.array([recalls[0], *(recalls[1] - lost for _ in shares[1:])])
    if seeds == 1:
        return means[None]
    drawn = []
    for c, mean in enumerate(means):
        models = draw(rng, _TRUE_SEEDS // seeds, 1, [(mean, seeds, unbalanced.SPREADS[min(c, 1)])])
        drawn.append(np.concatenate([true[0] for _, true in models]))
    return np.stack(drawn, axis=1)


def cell(metric: str, *, shares: tuple, recalls: tuple, rows: int, gap: float, seeds: int, studies: int) -> dict:
    """Return one case: how often intervals covered the true score, and how often tests were wrong."""
    rng = np.random.default_rng([17, len(metric), len(shares), round(100 * recalls[1]), rows, round(1000 * gap), seeds])
    measure = SCORES[metric].measure
    lost = gap * len(shares) / (len(shares) - 1)
    a, b = (truth(metric, shares, true_recalls(rng, shares, recalls, less, seeds)) for less in (0.0, lost))
    drawn = unbalanced.studies_of(rng, shares=shares, recalls=recalls, rows=rows, gap=gap, seeds=seeds, studies=studies)
    pairs = (tuple(_scored(measure, answers) for answers in pair) for pair in drawn)
    return {
        "metric": metric,
        "classes": len(shares),
        "smallest_share": min(shares),
        "recalls": recalls,
        "rows": rows,
        "apart": round(a - b, 4),
        "seeds": seeds,
        "studies": studies,
        **how_often(pairs, (a, b), apart=a - b, studies=studies),
    }


def _scored(measure, answers: Answers) -> Answers:
    correct = answers.values.astype(bool)
    return measure.answers(answers.labels, confused(correct, answers.labels))


def cells(studies: int) -> Iterator[dict]:
    """Yield all cases."""
    for metric in METRICS:
        for case in CASES:
            for seeds in unbalanced.SEEDS:
                yield cell(metric, **case, seeds=seeds, studies=studies)


if __name__ == "__main__":
    record(RESULT, __doc__, {"spreads": unbalanced.SPREADS}, cells)
