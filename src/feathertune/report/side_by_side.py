"""Draws a comparison of two studies as one page, in the look of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from markupsafe import Markup

from feathertune import __version__
from feathertune.records import SummaryRow
from feathertune.report.comparison import Comparison, Differing, MethodPair
from feathertune.report.drawing import charts
from feathertune.report.drawing.svg import Style
from feathertune.report.format import units
from feathertune.report.format.settings import plain
from feathertune.report.page import render_page
from feathertune.report.rows import method_styles
from feathertune.tasks import SCORES
from feathertune.tasks.formats import ScoreFormat

COMPARISON_FILE = "comparison.html"
_METHODS, _DRAWN, _DIFFERENCES = 100, 20, 150
_WORDS = 120


@dataclass(frozen=True)
class View:
    """What the template needs beside the comparison; `drawn` of the `shared` methods are in the chart."""

    say: ScoreFormat
    methods: tuple[tuple[MethodPair, Style], ...]
    charts: tuple[Markup, ...]
    drawn: int
    shared: int
    differing: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...]
    n_listed: int


def draw_comparison(comparison: Comparison) -> bytes:
    """The page, in UTF-8; long lists are cut, and the page says so."""
    names = f"{units.clip(comparison.a.folder, 40)} and {units.clip(comparison.b.folder, 40)}"
    return render_page(
        "comparison.html", title=names, drawn_by=__version__, view=_view(comparison), comparison=comparison
    )


def _view(comparison: Comparison) -> View:
    rows = [row for pair in comparison.methods if (row := pair.b or pair.a) is not None]
    styles = method_styles(rows)
    shared = [pair for pair in comparison.methods if pair.a and pair.b]
    listed = comparison.differing[:_DIFFERENCES]
    drawn: tuple[Markup, ...] = ()
    if comparison.a.score == comparison.b.score:  # two scores are not drawn on one scale
        colours = [styles[pair.method] for pair in shared]
        drawn = _intervals(shared[:_DRAWN], colours, comparison.b.score.capitalize(), saying_of(comparison))
    return View(
        say=saying_of(comparison),
        methods=tuple((pair, styles[pair.method]) for pair in comparison.methods[:_METHODS]),
        charts=drawn,
        drawn=min(len(shared), _DRAWN),
        shared=len(shared),
        differing=tuple(
            (group, tuple(_words(place) for place in places))
            for group, places in groupby(listed, key=lambda place: place.group)
        ),
        n_listed=len(listed),
    )


def saying_of(comparison: Comparison) -> ScoreFormat:
    """How the differences are said; of two scores there are none."""
    rows = [row for pair in comparison.methods if (row := pair.b or pair.a) is not None]
    return SCORES[rows[0].metric if rows else "accuracy"].format


def _words(place: Differing) -> tuple[str, str, str]:
    return units.clip(place.key, _WORDS), plain(place.key, place.a, _WORDS), plain(place.key, place.b, _WORDS)


def _intervals(
    pairs: Sequence[MethodPair], styles: Sequence[Style], score: str, say: ScoreFormat
) -> tuple[Markup, ...]:
    """Two lines a method, A above B, on one scale."""
    rows = []
    for pair, style in zip(pairs, styles, strict=False):
        for letter, row, hollow in (("A", pair.a, True), ("B", pair.b, False)):
            if row is not None:
                rows.append(_estimate(letter, row, replace(style, hollow=hollow)))
    if not rows:
        return ()
    widths = (charts.WIDE_PX, charts.SMALL_PX)
    return tuple(charts.intervals(rows, reference=None, width=width, score=score, say=say) for width in widths)


def _estimate(letter: str, row: SummaryRow, style: Style) -> charts.Estimate:
    name = f"{units.clip(row.method, 17)} {letter}"
    return charts.Estimate(name, style, row.score_mean, row.score_low, row.score_high, ())
