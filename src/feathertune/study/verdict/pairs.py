"""Pairwise comparison of all methods on the same test rows.

`low`, `high` and p include the spread over seeds (`feathertune.statistics.inference`); with one seed each, p is exact
where answers are right or wrong. `rows_low` and `rows_high` are the paired bootstrap over test rows for these trained
models, seeds averaged. p is corrected over all pairs: for the one planned comparison, use `SummaryRow.p_vs_full_holm`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from feathertune.records import PairRecord
from feathertune.statistics.inference import (
    RESAMPLES,
    bootstrap_scores,
    holm,
    paired_difference,
    percentile_interval,
)
from feathertune.statistics.measures import Answers


def compare_pairs(answers: Mapping[str, Answers], *, resamples: int = RESAMPLES) -> list[PairRecord]:
    """Compare each method with each later one.

    Args:
        answers: Those of each method to the test rows, ``(S, N)``; S may differ.
        resamples: Test sets of the bootstrap.

    Returns:
        One record for each pair, in the order of the methods; scores to six places and p to three digits, since there
        are hundreds of pairs.

    Raises:
        ValueError: If the methods hold different test rows.
    """
    pairs = list(combinations(answers, 2))
    if not pairs:
        return []
    differences = [paired_difference(answers[a], answers[b]) for a, b in pairs]
    corrected = holm([difference.p for difference in differences])
    drawn = dict(zip(answers, bootstrap_scores(list(answers.values()), resamples=resamples).T, strict=True))
    records = []
    for (a, b), difference, p_holm in zip(pairs, differences, corrected, strict=True):
        rows = percentile_interval(drawn[a] - drawn[b])
        records.append(
            PairRecord(
                a=a,
                b=b,
                delta=round(difference.mean, 6),
                low=round(difference.low, 6),
                high=round(difference.high, 6),
                rows_low=round(rows.low, 6),
                rows_high=round(rows.high, 6),
                p=_three_digits(difference.p),
                p_holm=_three_digits(p_holm),
            )
        )
    return records


def find_pair(pairs: Sequence[PairRecord], one: str, other: str) -> PairRecord | None:
    """The record of two methods, in either order; ``None`` where they were not compared."""
    return next((pair for pair in pairs if {pair.a, pair.b} == {one, other}), None)


def _three_digits(p: float) -> float:
    return float(f"{p:.3g}")
