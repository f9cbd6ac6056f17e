"""Draw the comparison of two studies as a page in the look of the report."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby

from markupsafe import Markup

from feathertune import __version__
from feathertune.report.comparison import Comparison
from feathertune.report.drawing import charts
from feathertune.report.drawing.svg import Style
from feathertune.report.format import units
from feathertune.report.format.settings import plain
from feathertune.report.page import render_page
from feathertune.report.rows import method_styles
from feathertune.tasks import SCORES
from feathertune.tasks.formats import capitalised

COMPARISON_FILE = "comparison.html"
_METHODS, _DRAWN, _DIFFERENCES = 100, 20, 150


def draw_comparison(comparison: Comparison) -> bytes:
    """Return the page in UTF-8; it says how much of a long list it leaves out."""
    rows = [row for pair in comparison.methods if (row := pair.b or pair.a) is not None]
    styles = method_styles(rows)
    listed = comparison.differing[:_DIFFERENCES]
    names = f"{units.clip(comparison.a.folder, 40)} and {units.clip(comparison.b.folder, 40)}"
    return render_page(
        "comparison.html",
        title=names,
        drawn_by=__version__,
        comparison=comparison,
        plain=plain,
        say=SCORES[comparison.b.metric].format,
        methods=[(pair, styles[pair.method]) for pair in comparison.methods[:_METHODS]],
        charts=_intervals(comparison, styles),
        drawn=min(len(comparison.shared), _DRAWN),
        differing=[(group, list(places)) for group, places in groupby(listed, key=lambda place: place.group)],
        n_listed=len(listed),
    )


def _intervals(comparison: Comparison, styles: dict[str, Style]) -> tuple[Markup, ...]:
    """Return a chart with two lines a method, A above B; two metrics have no common scale."""
    rows = [
        charts.Estimate(
            f"{units.clip(pair.method, 17)} {letter}", replace(styles[pair.method], hollow=letter == "A"), row
        )
        for pair in comparison.shared[:_DRAWN]
        for letter, row in (("A", pair.a), ("B", pair.b))
        if row is not None
    ]
    if not rows or comparison.untested == "other metric":
        return ()
    score, say = capitalised(comparison.b.score), SCORES[comparison.b.metric].format
    widths = (charts.WIDE_PX, charts.SMALL_PX)
    return tuple(charts.intervals(rows, reference=None, width=width, score=score, say=say) for width in widths)
