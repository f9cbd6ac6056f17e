"""Reliability diagrams: a method's accuracy by confidence, over its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from types import SimpleNamespace
from typing import NamedTuple

from markupsafe import Markup

from feathertune.records import Calibration, RunRecord
from feathertune.report.drawing import svg
from feathertune.report.drawing.charts import SMALL_PX
from feathertune.report.drawing.svg import Style
from feathertune.report.format import units
from feathertune.report.rows import Limits, Method, recommended_first
from feathertune.tasks import Task
from feathertune.tasks.formats import SHARE

_HEIGHT_PX = 250.0


class Bin(NamedTuple):
    """Predictions of similar confidence: number per seed, mean confidence and accuracy."""

    rows: float
    confidence: float
    right: float


def find_reliability(
    task: Task, methods: Sequence[Method], done: Sequence[RunRecord], limits: Limits
) -> tuple[SimpleNamespace, ...]:
    """Return charts of methods with a calibration, the recommended one first.

    The calibration errors, before and after temperature scaling, are means over seeds.
    """
    found = []
    calibrated = [run for run in done if run.calibration is not None]
    for method, own in recommended_first(methods, calibrated, limits):
        runs = [(getattr(run.test, "ece", 0.0), run.calibration) for run in own if run.calibration]
        bins = _joined([calibration for _, calibration in runs])
        found.append(
            SimpleNamespace(
                method=method.row.method,
                style=method.style,
                chart=draw(method.row.method, method.style, bins, of=task.words.decision),
                bins=bins,
                temperature=fmean(calibration.temperature for _, calibration in runs),
                before=fmean(ece for ece, _ in runs),
                after=fmean(calibration.ece for _, calibration in runs),
            )
        )
    return tuple(found)


def draw(name: str, style: Style, bins: Sequence[Bin], *, of: str = "rows") -> Markup:
    """Draw accuracy by confidence; larger marks hold more predictions."""
    left, right, top, bottom = 46.0, SMALL_PX - 14, 14.0, _HEIGHT_PX - 46
    low = min([0.5, *(value for b in bins for value in (b.confidence, b.right))])
    x, y = svg.score_scale(SHARE, [low, 1.0], left, right), svg.score_scale(SHARE, [low, 1.0], bottom, top)
    parts = svg.y_axis(y, left, right)
    parts += [svg.text(x(tick), bottom + 18, label, class_="tick", anchor="middle") for tick, label in x.ticks[:-1]]
    parts.append(svg.line(left, bottom, right, bottom, "axis"))
    parts.append(svg.line(x(x.low), y(x.low), x(x.high), y(x.high), "reference"))
    parts.append(svg.x_title(left, right, bottom + 40, "confidence"))
    parts.append(svg.path([(x(b.confidence), y(b.right)) for b in bins], f"curve {style.colour}"))
    most = max((b.rows for b in bins), default=1.0)
    for b in bins:
        said = f"{units.percent(b.right)} right at {units.percent(b.confidence)} confidence, {b.rows:,.0f} {of}"
        parts.append(
            svg.marker(x(b.confidence), y(b.right), style, radius=2.5 + 4 * (b.rows / most) ** 0.5, hover=said)
        )
    label = f"Accuracy of {units.clip(name, 40)} by confidence"
    return svg.drawing(SMALL_PX, _HEIGHT_PX, label, *parts)


def _joined(calibrations: Sequence[Calibration]) -> tuple[Bin, ...]:
    """Merge the bins of several seeds by tenths of confidence."""
    rows: dict[int, list[tuple[int, float, float]]] = {}
    for calibration in calibrations:
        for part in calibration.bins:
            rows.setdefault(min(9, int(10 * part[1] - 1e-9)), []).append(part)
    joined = []
    for _, parts in sorted(rows.items()):
        n = sum(count for count, _, _ in parts)
        confidence = sum(count * value for count, value, _ in parts) / n
        joined.append(Bin(n / len(calibrations), confidence, sum(count * value for count, _, value in parts) / n))
    return tuple(joined)
