"""The leading score by length of the texts: what the record says of each bucket, and the chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from feathertune.records import LengthBucket, ScoreOfBucket, StudyRecord
from feathertune.report.drawing import svg
from feathertune.report.drawing.charts import SMALL_PX, WIDE_PX
from feathertune.report.drawing.svg import Style
from feathertune.report.format import units
from feathertune.report.rows import Method
from feathertune.tasks import task_of_study
from feathertune.tasks.formats import ScoreFormat, capitalised

_APART_PX = 3.0  # so that the intervals of methods in one bucket do not hide each other


@dataclass(frozen=True)
class Line:
    """One method: its score in each bucket, from short to long."""

    method: str
    style: Style
    scores: tuple[ScoreOfBucket, ...]


@dataclass(frozen=True)
class ByLength:
    """What the report shows: the buckets with their names, a line a method, charts for a desktop and for a phone."""

    buckets: tuple[tuple[str, LengthBucket], ...]
    lines: tuple[Line, ...]
    charts: tuple[Markup, ...]


def bucket_name(bucket: LengthBucket) -> str:
    """Its lengths, in tokens."""
    if bucket.shortest == bucket.longest:
        return f"{bucket.longest:,}"
    return f"{bucket.shortest:,}–{bucket.longest:,}"


def by_length(study: StudyRecord, methods: Sequence[Method]) -> ByLength | None:
    """Draw the scores by length; nothing where all texts are in one bucket.

    Args:
        study: The record.
        methods: Which to draw.
    """
    buckets = tuple((bucket_name(bucket), bucket) for bucket in study.by_length)
    if len(buckets) < 2:
        return None
    lines = []
    for method in methods:
        scores = [one for _, bucket in buckets for one in bucket.scores if one.method == method.row.method]
        if len(scores) == len(buckets):
            lines.append(Line(method.row.method, method.style, tuple(scores)))
    if not lines:
        return None
    score, say = capitalised(task_of_study(study).primary.title), task_of_study(study).primary.format
    drawn = tuple(_draw(lines, buckets, width=width, score=score, say=say) for width in (WIDE_PX, SMALL_PX))
    return ByLength(buckets, tuple(lines), drawn)


def _draw(
    lines: Sequence[Line], buckets: Sequence[tuple[str, LengthBucket]], *, width: float, score: str, say: ScoreFormat
) -> Markup:
    """The score with its interval, bucket by bucket, one line a method."""
    wide = width > SMALL_PX
    left, right, top, bottom = 46.0, width - 20, 12.0, 300.0 if wide else 230.0
    apart = _APART_PX * (len(lines) - 1) / 2
    x = svg.Scale(0, len(buckets) - 1, left + 34 + apart, right - 28 - apart)
    y = svg.score_scale(say, [v for line in lines for one in line.scores for v in (one.low, one.high)], bottom, top, 5)
    parts = [svg.line(left, y(tick), right, y(tick), "grid") for tick, _ in y.ticks]
    parts += [svg.text(left - 7, y(tick) + 4, label, class_="tick", anchor="end") for tick, label in y.ticks]
    parts.append(svg.line(left, bottom, right, bottom, "axis"))
    reached = 0.0
    for place, (name, bucket) in enumerate(buckets):
        at, name = x(place), name if wide else f"{bucket.longest:,}"  # a span has no room on a phone
        parts.append(svg.line(at, bottom, at, bottom + 4, "axis"))
        if at - svg.text_width(name) / 2 > reached:
            parts.append(svg.text(at, bottom + 18, name, class_="tick", anchor="middle"))
            reached = at + svg.text_width(name) / 2
    title = "tokens of the text →" if wide else "tokens of the text, up to →"
    parts.append(svg.text((left + right) / 2, bottom + 40, title, class_="title", anchor="middle"))
    marks: list[Markup] = []
    for number, line in enumerate(lines):
        shift = _APART_PX * number - apart
        places = [(x(place) + shift, y(one.score)) for place, one in enumerate(line.scores)]
        parts.append(svg.path(places, f"curve {line.style.colour}"))
        for (at_x, at_y), one, (name, _) in zip(places, line.scores, buckets, strict=True):
            parts.append(svg.line(at_x, y(one.low), at_x, y(one.high), f"whisker {line.style.colour}"))
            said = f"{say.score(one.score)} ({say.interval(one.low, one.high)})"
            hover = f"{units.clip(line.method, 60)}, {name} tokens: {said}"
            marks.append(svg.marker(at_x, at_y, line.style, radius=4.5, hover=hover))
    label = f"{score} on the test rows by length of the text. " + ". ".join(
        f"{units.clip(line.method, 30)} {say.score(line.scores[0].score)} in the shortest, "
        f"{say.score(line.scores[-1].score)} in the longest"
        for line in lines[:12]
    )
    return svg.drawing(width, bottom + 48, label, *parts, *marks, class_="wide" if wide else "narrow")
