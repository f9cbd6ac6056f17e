"""Pairwise comparison of all methods on the same test rows.

`low`, `high` and p include the spread over seeds; `rows_low` and `rows_high` are the paired bootstrap over test rows.
p is corrected over all pairs: for the one planned comparison, use `SummaryRow.p_vs_full_holm`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from feathertune.records import PairRecord
from feathertune.statistics import inference
from feathertune.statistics.measures import Answers


def compare_pairs(answers: Mapping[str, Answers], *, resamples: int = inference.RESAMPLES) -> list[PairRecord]:
    """Compare each method's answers ``(S, N)`` with each later one's; scores to six places, p to three digits."""
    pairs = list(combinations(answers, 2))
    if not pairs:
        return []
    differences = [inference.paired_difference(answers[a], answers[b]) for a, b in pairs]
    corrected = inference.holm([difference.p for difference in differences])
    drawn = dict(zip(answers, inference.bootstrap_scores(list(answers.values()), resamples=resamples).T, strict=True))
    records = []
    for (a, b), difference, p_holm in zip(pairs, differences, corrected, strict=True):
        rows = inference.percentile_interval(drawn[a] - drawn[b])
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
    """Return the record of two methods, in either order; ``None`` if they were not compared."""
    return next((pair for pair in pairs if {pair.a, pair.b} == {one, other}), None)


def _three_digits(p: float) -> float:
    return float(f"{p:.3g}")
