"""Charts of single methods: training curves, confusion matrices and the bar of changed predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from feathertune.errors import isolated
from feathertune.report.drawing import svg
from feathertune.report.drawing.charts import SMALL_PX
from feathertune.report.drawing.svg import Style
from feathertune.report.format import units
from feathertune.report.side_files import Epoch
from feathertune.tasks.formats import SHARE, ScoreFormat


@dataclass(frozen=True)
class Curve:
    """A run's epochs, and the epoch whose weights were kept."""

    seed: int
    epochs: tuple[Epoch, ...]
    best_epoch: int


@dataclass(frozen=True)
class _Series:
    """A quantity by epoch: its field, its line's class, its name and its format."""

    field: str
    class_: str
    words: str
    say: Callable[[float], str]


def learning(
    name: str,
    style: Style,
    curves: Sequence[Curve],
    everything: Sequence[Curve],
    *,
    score: str = "accuracy",
    say: ScoreFormat = SHARE,
) -> Markup:
    """Draw losses and validation score by epoch, one line per seed; `everything` sets the shared scales."""
    width, left, right = SMALL_PX, 46.0, SMALL_PX - 12
    epochs = [epoch for curve in everything for epoch in curve.epochs]
    numbers = [epoch.epoch for epoch in epochs]
    first, last = min(numbers), max(numbers)
    x = svg.Scale(first - 0.3, last + 0.3, left, right)
    of_loss = (
        _Series("validation_loss", "curve dashed", "validation loss", units.decimal),
        _Series("train_loss", "curve", "training loss", units.decimal),
    )
    of_score = (_Series("validation_score", "curve", f"validation {score}", say.score),)
    parts: list[Markup] = []
    for title, top, bottom, series in (("loss", 22.0, 122.0, of_loss), (f"validation {score}", 158.0, 248.0, of_score)):
        parts.append(svg.text(left, top - 9, title, class_="title"))
        parts.append(svg.line(left, bottom, right, bottom, "axis"))
        values = [value for epoch in epochs for one in series if (value := getattr(epoch, one.field)) is not None]
        if not values:
            parts.append(svg.text(left + 8, (top + bottom) / 2, "not recorded", class_="tick"))
            continue
        if series is of_loss:
            low, high, ticks = svg.nice_range(min(0.0, *values), max(values), 3)
            y = svg.Scale(low, high, bottom, top, tuple((tick, f"{tick:.3g}") for tick in ticks))
        else:
            y = svg.score_scale(say, values, bottom, top, 3)
        parts += svg.y_axis(y, left, right)
        for curve in curves:
            for one in series:
                parts += _drawn(curve, one, x, y, style)
    every = max(1, -(-(last - first + 1) // 8))
    for number in range(first, last + 1, every):
        parts.append(svg.text(x(number), 266, number, class_="tick", anchor="middle"))
    parts.append(svg.x_title(left, right, 286, "epoch"))
    label = f"Training and validation loss and validation {score} of {units.clip(name, 40)} by epoch"
    return svg.drawing(width, 294, label, *parts)


def _drawn(curve: Curve, series: _Series, x: svg.Scale, y: svg.Scale, style: Style) -> list[Markup]:
    points = [(epoch.epoch, value) for epoch in curve.epochs if (value := getattr(epoch, series.field)) is not None]
    parts = []
    if len(points) > 1:
        parts.append(svg.path([(x(number), y(value)) for number, value in points], f"{series.class_} {style.colour}"))
    crowded = len(points) > 25
    for number, value in points:
        kept = series.field == "validation_score" and number == curve.best_epoch
        if crowded and not kept:
            continue
        hover = f"seed {curve.seed}, epoch {number}: {series.words} {series.say(value)}{' (kept)' if kept else ''}"
        mark = Style(style.colour, "circle", not kept)
        parts.append(svg.marker(x(number), y(value), mark, radius=4.5 if kept else 2.6, hover=hover))
    return parts


def confusion(name: str, labels: Sequence[str], counts: NDArray[np.float64]) -> Markup:
    """Draw a confusion matrix of mean counts ``(C, C)``; darker cells hold a larger share of their row."""
    n = len(labels)
    left, top, side = 92.0, 26.0, 232.0
    cell = side / n
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    parts = [
        svg.text(left + side / 2, 14, "predicted →", class_="title", anchor="middle"),
        svg.text(left - 7, 14, "true ↓", class_="title", anchor="end"),
        svg.element("rect", x=left, y=top, width=side, height=side, class_="plate"),
    ]
    for row in range(n):
        for column in range(n):
            if counts[row, column] == 0 and n > 8:
                continue
            share = float(shares[row, column])
            at_x, at_y = left + column * cell, top + row * cell
            said = f"{counts[row, column]:.1f}".removesuffix(".0")
            names = f"{isolated(units.clip(labels[row], 24))} → {isolated(units.clip(labels[column], 24))}"
            hover = svg.element("title", f"{names}: {said} ({units.percent(share)})")
            tone = {"class_": "cell", "fill_opacity": f"{share:.2f}".rstrip("0").rstrip(".")}
            parts.append(svg.element("rect", hover, x=at_x, y=at_y, width=cell, height=cell, **tone))
            if n <= 6:
                said_share = units.percent(share, 0 if n > 4 else 1)
                class_ = "value on" if share > 0.6 else "value"
                parts.append(svg.text(at_x + cell / 2, at_y + cell / 2 + 4, said_share, class_=class_, anchor="middle"))
    for index in range(n) if n <= 24 else ():
        middle = index * cell + cell / 2
        shortened = isolated(units.clip(labels[index], 13))
        parts.append(svg.text(left - 7, top + middle + 4, shortened, class_="tick", anchor="end"))
        if n <= 3:
            whole = isolated(units.clip(labels[index], int(cell / 6.5)))
            parts.append(svg.text(left + middle, top + side + 16, whole, class_="tick", anchor="middle"))
        else:
            at_x, at_y = left + middle + 4, top + side + 9
            turned = {"text_anchor": "end", "transform": f"rotate(-90 {at_x:.1f} {at_y:.1f})"}
            parts.append(svg.element("text", shortened, x=at_x, y=at_y, class_="tick", **turned))
    label = f"Confusion matrix of {units.clip(name, 40)}: share of each true class by predicted class"
    return svg.drawing(SMALL_PX, top + side + (24 if n <= 3 else 96), label, *parts)


def shares_bar(parts: Sequence[tuple[str, int, str]]) -> Markup:
    """Draw one bar from parts: name, count and class."""
    total = sum(count for _, count, _ in parts) or 1
    drawn, at = [], 0.0
    for name, count, class_ in parts:
        if count:
            width = 100 * count / total
            title = svg.element("title", f"{name}: {count:,} ({units.percent(count / total)})")
            place = {"x": f"{at:.2f}%", "y": 0, "width": f"{width:.2f}%", "height": 16}
            drawn.append(svg.element("rect", title, **place, class_=f"mark part {class_}"))
            at += width
    label = ", ".join(f"{name} {count}" for name, count, _ in parts)
    return svg.element("svg", *drawn, class_="chart bar", role="img", aria_label=label, height=16, width="100%")
