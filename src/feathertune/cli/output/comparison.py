"""Terminal output of a comparison of two studies."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from feathertune.cli.output.tables import Column, render, row_heads, table_of
from feathertune.records import SummaryRow
from feathertune.report.comparison import Comparison, MethodPair
from feathertune.report.format import units
from feathertune.tasks import SCORES
from feathertune.tasks.formats import ScoreFormat

_WORDS = 40
_LISTED = 30


def comparison_text(comparison: Comparison, page: Path) -> str:
    """Return the table of methods, the differences, the verdict, and the page's path."""
    heads, names = row_heads([pair.method for pair in comparison.methods])
    methods = table_of(*heads, "A", "B", "B - A", "95% CI", "p", "trained", "time")
    for pair in comparison.methods:
        methods.add_row(
            *(Text(units.clip(cell.plain, _WORDS)) for cell in names[pair.method]),
            _score(pair.a),
            _score(pair.b),
            *_difference(pair, comparison, SCORES[comparison.b.metric].format),
            *_costs(pair),
        )
    return render(
        "",
        *(
            Text(
                f"{letter}  {side.folder}: {side.base} on {side.source}, {side.n_train:,} training and "
                f"{side.n_test:,} test rows"
            )
            for letter, side in (("A", comparison.a), ("B", comparison.b))
        ),
        "",
        methods,
        "",
        *_differing(comparison),
        Text(" ".join(comparison.verdict)),
        *(Text(f"- {note}") for note in comparison.notes),
        Text(f"\nComparison: {page}"),
    )


def _differing(comparison: Comparison) -> list[Table | str]:
    if not comparison.differing:
        return []
    table = table_of(Column("name", left=True, whole=True), "A", "B")
    for place in comparison.differing[:_LISTED]:
        values = (units.plain(place.key, value, _WORDS) for value in (place.a, place.b))
        table.add_row(Text(place.key), *(Text(value, overflow="fold") for value in values))
    n_more = len(comparison.differing) - _LISTED
    return ["Differences:", table, *([f"{n_more} more on the page"] if n_more > 0 else []), ""]


def _score(row: SummaryRow | None) -> Text:
    if row is None:
        return Text(units.DASH)
    say = SCORES[row.metric].format
    return Text(f"{say.score(row.score_mean)} ({say.interval(row.score_low, row.score_high)})")


def _difference(pair: MethodPair, comparison: Comparison, say: ScoreFormat) -> tuple[str, str, str]:
    paired = pair.paired
    if paired is None:
        untested = pair.a and pair.b and (pair.untested or comparison.untested)
        return units.DASH, "not tested" if untested else units.DASH, units.DASH
    p = units.probability(paired.p).removeprefix("p ").removeprefix("= ")
    return say.difference(paired.difference), say.span(paired.low, paired.high), p


def _costs(pair: MethodPair) -> tuple[str, str]:
    trained = [row.trainable_parameters if row else None for row in (pair.a, pair.b)]
    seconds = [units.seconds(row.seconds_mean if row else None) for row in (pair.a, pair.b)]
    return " / ".join(dict.fromkeys(map(units.count, trained))), " / ".join(seconds)
