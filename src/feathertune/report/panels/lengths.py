"""The primary score by length of the texts."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from feathertune.records import LengthBucket, ScoreOfBucket, StudyRecord
from feathertune.report.drawing import charts
from feathertune.report.drawing.svg import Style
from feathertune.report.format import units
from feathertune.report.rows import Method
from feathertune.tasks import task_of_study
from feathertune.tasks.formats import capitalised


def bucket_name(bucket: LengthBucket) -> str:
    """Return a bucket's lengths, in tokens."""
    if bucket.shortest == bucket.longest:
        return f"{bucket.longest:,}"
    return f"{bucket.shortest:,}–{bucket.longest:,}"


def by_length(study: StudyRecord, methods: Sequence[Method]) -> SimpleNamespace | None:
    """Draw the scores by length for a desktop and a phone; nothing if all texts are in one bucket."""
    buckets = [(bucket_name(bucket), bucket) for bucket in study.by_length]
    if len(buckets) < 2:
        return None
    lines: list[tuple[Method, tuple[ScoreOfBucket, ...]]] = []
    points: list[tuple[str, Style, Sequence[charts.Point]]] = []
    for method in methods:
        scores = [one for _, bucket in buckets for one in bucket.scores if one.method == method.row.method]
        if len(scores) == len(buckets):
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
        for method, scores in lines[:12]
    ]
    label = f"{capitalised(score.title)} on the test rows by length of the text. {'. '.join(words)}"
    spans = [(place, name) for place, (name, _) in enumerate(buckets)]
    # A phone has no room for spans.
    ends = [(place, f"{bucket.longest:,}") for place, (_, bucket) in enumerate(buckets)]
    drawn = tuple(
        charts.lines(points, charts.Axis(title, ticks, (34, 28)), label=label, width=width, say=say)
        for title, ticks, width in (
            ("tokens of the text", spans, charts.WIDE_PX),
            ("tokens of the text, up to", ends, charts.SMALL_PX),
        )
    )
    return SimpleNamespace(buckets=buckets, lines=lines, charts=drawn)
