"""Two studies side by side in a terminal."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from feathertune.cli.output.tables import METHOD, Column, render, table_of
from feathertune.records import SummaryRow
from feathertune.report.comparison import Comparison, MethodPair, Side
from feathertune.report.format import units
from feathertune.report.format.settings import plain
from feathertune.report.side_by_side import saying_of
from feathertune.tasks import SCORES
from feathertune.tasks.formats import ScoreFormat

_WORDS = 40
_LISTED = 30


def comparison_text(comparison: Comparison, page: Path) -> str:
    """Return the methods, the differences, the verdict, and the path of the page."""
    methods = table_of(METHOD, "A", "B", "B - A", "95 % interval", "p", "trained", "time")
    for pair in comparison.methods:
        methods.add_row(
            Text(units.clip(pair.method, _WORDS)),
            _accuracy(pair.a),
            _accuracy(pair.b),
            *_difference(pair, saying_of(comparison)),
            *_costs(pair),
        )
    return render(
        "",
        _side("A", comparison.a),
        _side("B", comparison.b),
        "",
        methods,
        "",
        *_differing(comparison),
        Text(" ".join(comparison.verdict)),
        *(Text(f"- {note}") for note in comparison.notes),
        Text(f"\nComparison: {page}"),
    )


def _differing(comparison: Comparison) -> list[Table | str]:
    """List the differences that fit on a screen."""
    if not comparison.differing:
        return []
    table = table_of(Column("name", left=True, whole=True), "A", "B")
    for place in comparison.differing[:_LISTED]:
        values = (plain(place.key, value, _WORDS) for value in (place.a, place.b))
        table.add_row(Text(place.key), *(Text(value, overflow="fold") for value in values))
    n_more = len(comparison.differing) - _LISTED
    return ["In what they differ:", table, *([f"and {n_more} more, on the page"] if n_more > 0 else []), ""]


def _side(letter: str, side: Side) -> Text:
    rows = f"{side.n_train:,} training and {side.n_test:,} test rows"
    return Text(f"{letter}  {side.folder}: {side.base} on {side.source}, {rows}")


def _accuracy(row: SummaryRow | None) -> Text:
    if row is None:
        return Text(units.DASH)
    say = SCORES[row.metric].format
    return Text(f"{say.score(row.score_mean)} ({say.interval(row.score_low, row.score_high)})")


def _difference(pair: MethodPair, say: ScoreFormat) -> tuple[str, str, str]:
    paired = pair.paired
    if paired is None:
        return units.DASH, "not tested" if pair.untested else units.DASH, units.DASH
    p = units.probability(paired.p).removeprefix("p ").removeprefix("= ")
    return say.difference(paired.difference), say.span(paired.low, paired.high), p


def _costs(pair: MethodPair) -> tuple[str, str]:
    """Return trained parameters and seconds of both."""
    sides = (pair.a, pair.b)
    trained = [units.DASH if row is None else units.count(row.trainable_parameters) for row in sides]
    seconds = [units.DASH if row is None else units.seconds(row.seconds_mean) for row in sides]
    return trained[0] if trained[0] == trained[1] else " / ".join(trained), " / ".join(seconds)
