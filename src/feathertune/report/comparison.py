"""Record and HTML page of a comparison of two studies, which `feathertune.study.versus` makes."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import Any, Literal

from markupsafe import Markup
from pydantic import Field

from feathertune import __version__
from feathertune.records import Record, SummaryRow
from feathertune.report.drawing import charts
from feathertune.report.drawing.svg import Style
from feathertune.report.format import units
from feathertune.report.page import render_page
from feathertune.report.rows import method_styles
from feathertune.tasks import SCORES
from feathertune.tasks.formats import capitalised

COMPARISON_FILE = "comparison.html"
_METHODS, _DRAWN, _DIFFERENCES = 100, 20, 150
Group = Literal["data", "base", "settings", "versions", "hardware"]
# Why differences, or one of them, are not tested.
Untested = Literal["other metric", "other test rows", "test rows cannot be read", "predictions cannot be read"]


class Differing(Record):
    """A setting by its dotted name, or a field of ``study.json``; null if a study has no value for it."""

    group: Group
    key: str
    a: Any = None
    b: Any = None


class Side(Record):
    """One of the two studies; `score` is the name of its primary metric."""

    folder: str
    created: str
    status: str
    base: str
    source: str
    n_train: int
    n_test: int
    runs_complete: int
    runs_planned: int
    metric: str
    score: str


class Paired(Record):
    """A difference in the primary metric, B minus A, paired by test row, with its 95% interval.

    Attributes:
        p: Two-sided, Holm-corrected over the methods for which something differs, and separately over the others.
        alike: In both studies, every seed is right on the same rows, or ranks the rows in the same order.
    """

    difference: float
    low: float
    high: float
    p: float
    alike: bool


class MethodPair(Record):
    """A method's rows in both studies, null if missing; `causes` names what differs for this method."""

    method: str
    a: SummaryRow | None
    b: SummaryRow | None
    paired: Paired | None = None
    untested: Untested | None = None
    causes: list[str] = Field(default_factory=list)


class Comparison(Record):
    """The comparison of two studies, as ``feathertune report A B --json`` prints it."""

    a: Side
    b: Side
    untested: Untested | None
    differing: list[Differing]
    methods: list[MethodPair]
    verdict: list[str]
    notes: list[str] = Field(default_factory=list)

    @property
    def shared(self) -> list[MethodPair]:
        """Methods with results in both studies."""
        return [pair for pair in self.methods if pair.a and pair.b]


def draw_comparison(comparison: Comparison) -> bytes:
    """Return the page in UTF-8; long lists are shortened and say by how much."""
    rows = [row for pair in comparison.methods if (row := pair.b or pair.a) is not None]
    styles = method_styles(rows)
    listed = comparison.differing[:_DIFFERENCES]
    names = f"{units.clip(comparison.a.folder, 40)} and {units.clip(comparison.b.folder, 40)}"
    return render_page(
        "comparison.html",
        title=names,
        drawn_by=__version__,
        comparison=comparison,
        plain=units.plain,
        say=SCORES[comparison.b.metric].format,
        methods=[(pair, styles[pair.method]) for pair in comparison.methods[:_METHODS]],
        charts=_intervals(comparison, styles),
        drawn=min(len(comparison.shared), _DRAWN),
        differing=[(group, list(places)) for group, places in groupby(listed, key=lambda place: place.group)],
        n_listed=len(listed),
    )


def _intervals(comparison: Comparison, styles: dict[str, Style]) -> tuple[Markup, ...]:
    """Return a chart with two lines per method, A above B; none if the studies have different metrics."""
    rows = [
        charts.Estimate(
            f"{units.clip(pair.method, 24)} {letter}", replace(styles[pair.method], hollow=letter == "A"), row
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
