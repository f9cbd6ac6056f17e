"""The score by number of training rows, and the gain of more labels in words."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from feathertune.records import MoreLabels, StudyRecord, SummaryRow, at_largest_size
from feathertune.report.drawing import charts
from feathertune.report.format import units
from feathertune.report.rows import Method
from feathertune.tasks import task_of_study
from feathertune.tasks.formats import SHARE, ScoreFormat, capitalised


def at_most_rows(study: StudyRecord) -> StudyRecord:
    """Return the study without runs on fewer rows; the same one without a learning curve."""
    runs = at_largest_size(study.runs)
    kept = {run.id for run in runs}
    fewer = {run.id for run in study.runs if run.id not in kept}
    planned = [run for run in study.planned_runs if run not in fewer]
    summary = at_largest_size(study.summary)
    return study.model_copy(update={"runs": runs, "summary": summary, "planned_runs": planned})


def sizes_of(study: StudyRecord) -> tuple[int, ...]:
    """Return the numbers of training rows of a learning curve, ascending; draws of so many rows each are no curve."""
    if study.data.shots is not None:
        return ()
    return tuple(sorted({row.train_rows for row in study.summary if row.train_rows is not None}))


def sentence(more: MoreLabels, say: ScoreFormat = SHARE) -> str:
    """Return a method's gain by the last doubling."""
    bought = f"{say.difference(more.gain)}{say.unit} ({say.span(more.low, more.high)}) a doubling"
    rows = f"from {more.fewer:,} to {more.rows:,} rows"
    if more.low > 0:
        return (
            f"{more.method}: {rows} it gained {bought}; {2 * more.rows:,} rows would hardly buy more than that again."
        )
    if more.high < 0:
        return f"{more.method}: {rows} it lost, {bought}; more labels do not help it."
    return f"{more.method}: {rows}, {bought}; whether more labels help is not clear."


def label_curve(study: StudyRecord, methods: Sequence[Method]) -> SimpleNamespace | None:
    """Draw the learning curve of a study for a desktop and a phone, with a sentence a method; None without one."""
    sizes = sizes_of(study)
    if not sizes:
        return None
    lines: list[tuple[Method, tuple[SummaryRow, ...]]] = []
    for method in methods:
        rows = [row for row in study.summary if row.method == method.row.method and row.train_rows is not None]
        if rows:
            lines.append((method, tuple(sorted(rows, key=lambda row: row.train_rows or 0))))
    score = task_of_study(study).primary
    shown, say = {method.row.method for method, _ in lines}, score.format
    words = [
        f"{units.clip(method.row.method, 30)} {say.score(rows[0].score_mean)} to {say.score(rows[-1].score_mean)}"
        for method, rows in lines[:12]
    ]
    label = f"{capitalised(score.title)} on the test rows by number of training rows. {'. '.join(words)}"
    title = f"training rows{', logarithmic' if len(sizes) > 1 else ''}"
    axis = charts.Axis(title, [(size, f"{size:,}") for size in sizes], (14, 8), log=True)
    points = [(method.row.method, method.style, list(map(_point, rows))) for method, rows in lines]
    return SimpleNamespace(
        rows=sizes,
        lines=lines,
        charts=tuple(
            charts.lines(points, axis, label=label, width=width, say=say) for width in (charts.WIDE_PX, charts.SMALL_PX)
        ),
        sentences=tuple(sentence(more, say) for more in study.more_labels if more.method in shown),
    )


def _point(row: SummaryRow) -> charts.Point:
    rows = row.train_rows or 0
    return charts.Point(rows, f"{rows:,} rows", row.score_mean, row.score_low, row.score_high)
