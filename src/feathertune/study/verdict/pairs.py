"""Every two methods of a study, compared on the same test rows.

How seeds enter: `low`, `high` and p are about the methods, trained and tested again, and take the spread over seeds
in (`feathertune.statistics.inference.paired_difference`); with one seed each, p is that of an exact test (McNemar's,
or its like by classes; rank correlations have none). That test has no exact form for several seeds: to pool them would
count each row several times. `rows_low` and `rows_high` are the paired bootstrap over test rows: about the models that
were trained, with their seeds averaged.

Not for the one comparison that was planned: a p of a hundred pairs is corrected for a hundred. Against `full` alone,
`SummaryRow.p_vs_full_holm` is corrected for the methods only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from feathertune.records import PairRecord
from feathertune.statistics.answers import AnyAnswers
from feathertune.statistics.inference import (
    RESAMPLES,
    bootstrap_scores,
    holm,
    paired_difference,
    percentile_interval,
)


def compare_pairs(answers: Mapping[str, AnyAnswers], *, resamples: int = RESAMPLES) -> list[PairRecord]:
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
