"""Panels of the primary score: by number of training rows, with the gain of more labels, and by text length."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from markupsafe import Markup

from feathertune.records import (
    BaseRecord,
    LengthBucket,
    MoreLabels,
    ScoreOfBucket,
    StudyRecord,
    SummaryRow,
    at_largest_size,
)
from feathertune.report.drawing import charts
from feathertune.report.drawing.svg import Style
from feathertune.report.format import units
from feathertune.report.rows import Method
from feathertune.tasks import Score, task_of_study
from feathertune.tasks.formats import SHARE, ScoreFormat, capitalised

Lines = list[tuple[str, Style, Sequence[charts.Point]]]


def at_most_rows(study: StudyRecord) -> StudyRecord:
    """Return the study with only its largest training size; unchanged without a learning curve."""
    runs = at_largest_size(study.runs)
    kept = {run.id for run in runs}
    fewer = {run.id for run in study.runs if run.id not in kept}
    planned = [run for run in study.planned_runs if run not in fewer]
    summary = at_largest_size(study.summary)
    return study.model_copy(update={"runs": runs, "summary": summary, "planned_runs": planned})


def sizes_of(study: StudyRecord) -> tuple[int, ...]:
    """Return a learning curve's numbers of training rows, ascending; empty for few-label draws."""
    if study.data.shots is not None:
        return ()
    return tuple(sorted({row.train_rows for row in study.summary if row.train_rows is not None}))


def sentence(more: MoreLabels, say: ScoreFormat = SHARE) -> str:
    """Return a sentence on a method's gain from the last doubling."""
    ends = f"[{say.difference(more.low)}, {say.difference(more.high)}]"
    gain = (
        f"{say.difference(more.gain)}{say.unit} per doubling (95% CI {ends}) from {more.fewer:,} to {more.rows:,} rows"
    )
    if more.low > 0:
        return f"{more.method}: {gain}. Expect no more than that from {2 * more.rows:,} rows."
    if more.high < 0:
        return f"{more.method}: {gain}. More labels do not help."
    return f"{more.method}: {gain}. It is not clear whether more labels help."


def label_curve(study: StudyRecord, methods: Sequence[Method]) -> SimpleNamespace | None:
    """Draw a study's learning curve, wide and narrow, with one sentence per method; None without one."""
    sizes = sizes_of(study)
    if not sizes:
        return None
    lines: list[tuple[Method, list[SummaryRow]]] = []
    for method in methods:
        rows = [row for row in study.summary if row.method == method.row.method and row.train_rows is not None]
        if rows:
            lines.append((method, sorted(rows, key=lambda row: row.train_rows or 0)))
    score = task_of_study(study).primary
    shown, say = {method.row.method for method, _ in lines}, score.format
    words = [
        f"{units.clip(method.row.method, 30)} {say.score(rows[0].score_mean)} to {say.score(rows[-1].score_mean)}"
        for method, rows in lines
    ]
    title = f"training rows{', logarithmic' if len(sizes) > 1 else ''}"
    axis = charts.Axis(title, [(size, f"{size:,}") for size in sizes], (14, 8), log=True)
    points: Lines = [(method.row.method, method.style, list(map(_point, rows))) for method, rows in lines]
    return SimpleNamespace(
        rows=sizes,
        lines=lines,
        charts=_charts(points, axis, axis, score=score, along="number of training rows", words=words),
        sentences=tuple(sentence(more, say) for more in study.more_labels if more.method in shown),
    )


def _point(row: SummaryRow) -> charts.Point:
    rows = row.train_rows or 0
    return charts.Point(rows, f"{rows:,} rows", row.score_mean, row.score_low, row.score_high)


def _charts(
    lines: Lines, wide: charts.Axis, narrow: charts.Axis, *, score: Score, along: str, words: Sequence[str]
) -> tuple[Markup, ...]:
    label = f"{capitalised(score.title)} on the test rows by {along}. {'. '.join(words[:12])}"
    return tuple(
        charts.lines(lines, axis, label=label, width=width, say=score.format)
        for axis, width in ((wide, charts.WIDE_PX), (narrow, charts.SMALL_PX))
    )


def bucket_name(bucket: LengthBucket) -> str:
    """Return a bucket's range of lengths in tokens."""
    if bucket.shortest == bucket.longest:
        return f"{bucket.longest:,}"
    return f"{bucket.shortest:,}–{bucket.longest:,}"


def by_length(study: StudyRecord, base: BaseRecord, methods: Sequence[Method], at_most: int) -> SimpleNamespace | None:
    """Draw a base's scores by text length, wide and narrow; None with fewer than two buckets."""
    found = study.buckets_of(base)
    buckets = [(bucket_name(bucket), bucket) for bucket in found]
    if len(buckets) < 2:
        return None
    lines: list[tuple[Method, tuple[ScoreOfBucket, ...]]] = []
    points: Lines = []
    for method in methods:
        scores = [one for bucket in found for one in bucket.scores if one.method == method.row.method]
        if len(scores) == len(buckets) and len(lines) < at_most:
            lines.append((method, tuple(scores)))
            places = [
                charts.Point(place, f"{name} tokens", one.score, one.low, one.high)
                for place, ((name, _), one) in enumerate(zip(buckets, scores, strict=True))
            ]
            points.append((method.row.method, method.style, places))
    if not lines:
        return None
    score = task_of_study(study).primary
    say = score.format
    words = [
        f"{units.clip(method.row.method, 30)} {say.score(scores[0].score)} in the shortest, "
        f"{say.score(scores[-1].score)} in the longest"
        for method, scores in lines
    ]
    room = (34, 28)
    spans = charts.Axis("tokens per text", [(place, name) for place, (name, _) in enumerate(buckets)], room)
    # A phone has no room for ranges.
    ends = [(place, f"{bucket.longest:,}") for place, (_, bucket) in enumerate(buckets)]
    upper = charts.Axis("tokens per text, up to", ends, room)
    drawn = _charts(points, spans, upper, score=score, along="length of the text", words=words)
    return SimpleNamespace(base=base, buckets=buckets, lines=lines, charts=drawn)
