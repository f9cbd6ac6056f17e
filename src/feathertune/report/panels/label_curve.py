"""Accuracy against training rows, and in words what more labels would buy.

Not for how one training went by epoch: that is `feathertune.report.drawing.run_charts`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from feathertune.records import MoreLabels, StudyRecord, SummaryRow, at_largest_size
from feathertune.report.drawing import svg
from feathertune.report.drawing.charts import SMALL_PX, WIDE_PX
from feathertune.report.drawing.svg import Style
from feathertune.report.format import units
from feathertune.report.rows import Method
from feathertune.tasks import task_of_study
from feathertune.tasks.formats import SHARE, ScoreFormat, capitalised

_APART_PX = 3.0  # so that the intervals of methods at one number of rows do not hide each other


@dataclass(frozen=True)
class Line:
    """One method: its rows of the summary, from few training rows to many."""

    method: str
    style: Style
    points: tuple[SummaryRow, ...]


@dataclass(frozen=True)
class LabelCurve:
    """What the report shows of a learning curve.

    Attributes:
        rows: The numbers of training rows.
        charts: For a desktop and for a phone.
        sentences: What more labels would buy, one a method.
    """

    rows: tuple[int, ...]
    lines: tuple[Line, ...]
    charts: tuple[Markup, ...]
    sentences: tuple[str, ...]


def at_most_rows(study: StudyRecord) -> StudyRecord:
    """The study without what was trained on fewer rows; the same one where there is no learning curve."""
    runs = at_largest_size(study.runs)
    kept = {run.id for run in runs}
    fewer = {run.id for run in study.runs if run.id not in kept}
    planned = [run for run in study.planned_runs if run not in fewer]
    summary = at_largest_size(study.summary)
    return study.model_copy(update={"runs": runs, "summary": summary, "planned_runs": planned})


def sizes_of(study: StudyRecord) -> tuple[int, ...]:
    """The numbers of training rows of a learning curve, ascending; draws of so many rows each are no curve."""
    if study.data.shots is not None:
        return ()
    return tuple(sorted({row.train_rows for row in study.summary if row.train_rows is not None}))


def sentence(more: MoreLabels, say: ScoreFormat = SHARE) -> str:
    """What the last doubling bought a method."""
    bought = f"{say.difference(more.gain)}{say.unit} ({say.span(more.low, more.high)}) a doubling"
    rows = f"from {more.fewer:,} to {more.rows:,} rows"
    if more.low > 0:
        return (
            f"{more.method}: {rows} it gained {bought}; {2 * more.rows:,} rows would hardly buy more than that again."
        )
    if more.high < 0:
        return f"{more.method}: {rows} it lost, {bought}; more labels do not help it."
    return f"{more.method}: {rows}, {bought}; whether more labels help is not clear."


def label_curve(study: StudyRecord, methods: Sequence[Method]) -> LabelCurve | None:
    """Draw the learning curve of a study.

    Args:
        study: The whole one, with all numbers of training rows.
        methods: Which to draw.

    Returns:
        None where there is no such curve.
    """
    sizes = sizes_of(study)
    if not sizes:
        return None
    lines = []
    for method in methods:
        points = [row for row in study.summary if row.method == method.row.method and row.train_rows is not None]
        if points:
            points.sort(key=lambda row: row.train_rows or 0)
            lines.append(Line(method.row.method, method.style, tuple(points)))
    shown, score, say = (
        {line.method for line in lines},
        capitalised(task_of_study(study).primary.title),
        task_of_study(study).primary.format,
    )
    return LabelCurve(
        rows=sizes,
        lines=tuple(lines),
        charts=tuple(draw(lines, sizes, width=width, score=score, say=say) for width in (WIDE_PX, SMALL_PX)),
        sentences=tuple(sentence(more, say) for more in study.more_labels if more.method in shown),
    )


def draw(
    lines: Sequence[Line], sizes: Sequence[int], *, width: float, score: str = "Accuracy", say: ScoreFormat = SHARE
) -> Markup:
    """The score with its interval against training rows, one line a method; the rows on a logarithmic axis.

    Args:
        lines: At least one.
        sizes: The numbers of training rows, ascending.
        width: `feathertune.report.drawing.charts.WIDE_PX` or `SMALL_PX`.
        score: What is drawn, for who cannot see it.
        say: How it is said.
    """
    left, right, top, bottom = 46.0, width - 20, 12.0, 300.0 if width > SMALL_PX else 230.0
    apart = _APART_PX * (len(lines) - 1) / 2
    x = svg.Scale(
        sizes[0], sizes[-1] if len(sizes) > 1 else 2 * sizes[0], left + 14 + apart, right - 8 - apart, log=True
    )
    values = [value for line in lines for row in line.points for value in (row.score_low, row.score_high)]
    y = svg.score_scale(say, values, bottom, top, 5)
    parts = [svg.line(left, y(tick), right, y(tick), "grid") for tick, _ in y.ticks]
    parts += [svg.text(left - 7, y(tick) + 4, label, class_="tick", anchor="end") for tick, label in y.ticks]
    parts.append(svg.line(left, bottom, right, bottom, "axis"))
    reached = -math.inf
    for size in sizes:
        label, at = f"{size:,}", x(size)
        parts.append(svg.line(at, bottom, at, bottom + 4, "axis"))
        if at - svg.text_width(label) / 2 > reached:
            parts.append(svg.text(at, bottom + 18, label, class_="tick", anchor="middle"))
            reached = at + svg.text_width(label) / 2
    title = f"training rows{', logarithmic' if len(sizes) > 1 else ''} →"
    parts.append(svg.text((left + right) / 2, bottom + 40, title, class_="title", anchor="middle"))
    marks: list[Markup] = []
    for number, line in enumerate(lines):
        shift = _APART_PX * number - apart
        places = [(x(row.train_rows or 0) + shift, y(row.score_mean)) for row in line.points]
        if len(places) > 1:
            parts.append(svg.path(places, f"curve {line.style.colour}"))
        for (at_x, at_y), row in zip(places, line.points, strict=True):
            low, high = y(row.score_low), y(row.score_high)
            parts.append(svg.line(at_x, low, at_x, high, f"whisker {line.style.colour}"))
            said = f"{say.score(row.score_mean)} ({say.interval(row.score_low, row.score_high)})"
            hover = f"{units.clip(line.method, 60)}, {row.train_rows:,} rows: {said}"
            marks.append(svg.marker(at_x, at_y, line.style, radius=4.5, hover=hover))
    label = f"{score} on the test rows by number of training rows. " + ". ".join(
        f"{units.clip(line.method, 30)} {say.score(line.points[0].score_mean)} to "
        f"{say.score(line.points[-1].score_mean)}"
        for line in lines[:12]
    )
    return svg.drawing(width, bottom + 48, label, *parts, *marks, class_="wide" if width > SMALL_PX else "narrow")
