"""How often the statistics are right in simulated studies of two methods whose truth is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from feathertune.study.answers import Scored
from feathertune.study.stats import equivalence, paired_difference, seed_interval


def how_often(
    drawn: Iterable[tuple[Scored, Scored]], truths: Sequence[float], *, apart: float, studies: int
) -> dict[str, float]:
    """Shares of the studies, and mean half-widths of their intervals.

    Args:
        drawn: The answers of both methods in each study.
        truths: The true score of each.
        apart: The true difference, 0 or above.
        studies: How many there are.
    """
    counts = dict.fromkeys(("covered_single", "covered_difference", "clear", "as_good"), 0.0)
    widths = []
    for a, b in drawn:
        for answers, truth in zip((a, b), truths, strict=True):
            estimate = seed_interval(answers)
            counts["covered_single"] += (estimate.low <= truth <= estimate.high) / 2
        found = paired_difference(a, b)
        counts["covered_difference"] += found.low <= apart <= found.high
        counts["clear"] += found.p < 0.05
        counts["as_good"] += apart > 0 and equivalence(a, b, margin=apart) < 0.05
        widths.append((estimate.high - estimate.low, found.high - found.low))
    half = np.mean(widths, axis=0) / 2
    return {
        **{name: round(count / studies, 4) for name, count in counts.items()},
        "half_width_single": round(float(half[0]), 4),
        "half_width_difference": round(float(half[1]), 4),
    }
