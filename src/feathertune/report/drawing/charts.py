"""Charts that compare methods, as inline SVG that needs no script.

Each is drawn about as wide as a phone (or twice, for the one that deserves a desktop's width), so that its
text is never scaled to something unreadable. Numbers stand in a table beneath, made by the template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from feathertune.report.drawing import svg
from feathertune.report.drawing.svg import Quantity, Style
from feathertune.report.format import units
from feathertune.tasks.formats import SHARE, ScoreFormat

SMALL_PX = 340.0
WIDE_PX = 900.0
_INTERVAL_PX = 82.0  # of one in percent


@dataclass(frozen=True)
class Estimate:
    """A method's score with its 95 % interval, and that of each seed."""

    name: str
    style: Style
    mean: float
    low: float
    high: float
    seeds: tuple[float, ...]
    emphasised: bool = False


@dataclass(frozen=True)
class Tradeoff:
    """A method's cost and accuracy."""

    name: str
    style: Style
    cost: float
    score: float


def intervals(
    rows: Sequence[Estimate],
    *,
    reference: tuple[str, float] | None,
    width: float,
    score: str = "Accuracy",
    say: ScoreFormat = SHARE,
) -> Markup:
    """Accuracy as a dot with whiskers, one method a line.

    Args:
        rows: In the order they are drawn, from the top.
        reference: A name and an accuracy drawn as a dashed line, such as the largest class.
        width: `SMALL_PX` puts the name above its line, `WIDE_PX` beside it.
        score: What is drawn, for who cannot see it.
        say: How it is said.
    """
    wide = width > 500
    room = max([_INTERVAL_PX, *(svg.text_width(say.interval(row.low, row.high)) for row in rows)])
    left, right, step = (160.0, width - 70 - room, 36.0) if wide else (10.0, width - 12, 46.0)
    values = [value for row in rows for value in (row.low, row.high, row.mean, *row.seeds)]
    inset = 0.0 if wide else 10.0  # the outermost labels are wider than the margin of a phone
    shares = [*values, *([reference[1]] if reference else [])]
    x = svg.score_scale(say, shares, left + inset, right - inset, 6 if wide else 4)
    top = 22.0 if reference else 6.0
    bottom = top + step * len(rows)
    parts = [svg.line(x(tick), top, x(tick), bottom, "grid") for tick, _ in x.ticks]
    parts += [svg.text(x(tick), bottom + 18, label, class_="tick", anchor="middle") for tick, label in x.ticks]
    if reference:
        at = x(reference[1])
        anchor = "start" if at < left + 60 else "end" if at > right - 60 else "middle"
        parts.append(svg.line(at, top - 4, at, bottom, "reference"))
        parts.append(svg.text(at, top - 9, reference[0], class_="tick", anchor=anchor))
    for index, row in enumerate(rows):
        y = top + step * index + (step / 2 if wide else step - 13)
        interval = say.interval(row.low, row.high)
        name_class = "name strong" if row.emphasised else "name"
        if wide:
            parts.append(svg.text(left - 14, y + 4, units.clip(row.name, 20), class_=name_class, anchor="end"))
            parts.append(svg.text(right + 14, y + 4, say.score(row.mean), class_=name_class))
            parts.append(svg.text(right + 70, y + 4, interval, class_="tick"))
        else:
            parts.append(svg.text(left, y - 14, units.clip(row.name, 22), class_=name_class))
            parts.append(svg.text(right + 4 - room, y - 14, say.score(row.mean), class_=name_class, anchor="end"))
            parts.append(svg.text(right, y - 14, interval, class_="tick", anchor="end"))
        parts.append(svg.line(x(row.low), y, x(row.high), y, f"whisker {row.style.colour}"))
        parts += [svg.line(x(end), y - 5, x(end), y + 5, f"whisker {row.style.colour}") for end in (row.low, row.high)]
        if len(row.seeds) > 1:
            seeds = [
                svg.element("circle", cx=x(s), cy=y + 10, r=2, class_=f"seed {row.style.colour}") for s in row.seeds
            ]
            parts += seeds
        hover = f"{units.clip(row.name, 60)}: {say.score(row.mean)}, 95 % interval {interval}"
        parts.append(svg.marker(x(row.mean), y, row.style, radius=6, hover=hover))
    label = f"{score} on the test rows with 95 % intervals. " + ". ".join(
        f"{units.clip(row.name, 30)} {say.score(row.mean)}" for row in rows[:12]
    )
    return svg.drawing(width, bottom + 26, label, *parts, class_="wide" if wide else "narrow")


def pareto_front(points: Sequence[Tradeoff]) -> list[Tradeoff]:
    """The methods that no other one beats in accuracy at the same cost or less, from cheap to dear."""
    front: list[Tradeoff] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.score)):
        if not front or point.score > front[-1].score:
            front.append(point)
    return front


def tradeoffs(
    points: Sequence[Tradeoff], quantity: Quantity, *, score: str = "Accuracy", say: ScoreFormat = SHARE
) -> Markup:
    """The score against a cost; a step line is the best that can be had for a cost."""
    width, height, left, right, top, bottom = SMALL_PX, 268.0, 46.0, SMALL_PX - 14, 12.0, 214.0
    x = svg.amount_scale([point.cost for point in points], quantity, left + 8, right)
    y = svg.score_scale(say, [point.score for point in points], bottom, top, 4)
    parts = [svg.line(left, y(tick), right, y(tick), "grid") for tick, _ in y.ticks]
    parts += [svg.text(left - 7, y(tick) + 4, label, class_="tick", anchor="end") for tick, label in y.ticks]
    ticks = [(x(tick), label) for tick, label in x.ticks]
    if x.zero_at is not None:
        ticks.insert(0, (x.zero_at, quantity.below))
        parts.append(svg.line(x.start - 12, top, x.start - 12, bottom, "break"))
    reached = -1.0
    for at, label in ticks:
        parts.append(svg.line(at, bottom, at, bottom + 4, "axis"))
        if at - svg.text_width(label) / 2 > reached:
            anchor = "end" if at + svg.text_width(label) / 2 > width else "middle"
            parts.append(svg.text(at, bottom + 18, label, class_="tick", anchor=anchor))
            reached = at + svg.text_width(label) / 2
    parts.append(svg.line(left, bottom, right, bottom, "axis"))
    scale_name = f"{quantity.name}{', logarithmic' if x.log else ''}"
    parts.append(svg.text((left + right) / 2, bottom + 42, f"{scale_name} →", class_="title", anchor="middle"))
    front = pareto_front(points)
    if len(front) > 1:
        steps = [(x(front[0].cost), y(front[0].score))]
        for point in front[1:]:
            steps += [(x(point.cost), steps[-1][1]), (x(point.cost), y(point.score))]
        parts.append(svg.path([*steps, (right, steps[-1][1])], "front"))
    marks, labels = [], []
    taken = [_box(x(point.cost), y(point.score), 7.0) for point in points]
    first = {point.name for point in front}
    for point in sorted(points, key=lambda p: p.name not in first):
        at_x, at_y = x(point.cost), y(point.score)
        hover = f"{units.clip(point.name, 60)}: {say.score(point.score)}, {quantity.say(point.cost)}"
        marks.append(svg.marker(at_x, at_y, point.style, hover=hover))
        name = units.clip(point.name, 16)
        bounds = (left, width - 2, top - 8, bottom)
        place = _place(at_x, at_y, svg.text_width(name), taken, bounds, beside=point.name not in first)
        if place is not None:
            box, anchor, label_x, label_y = place
            taken.append(box)
            labels.append(svg.text(label_x, label_y, name, class_="label", anchor=anchor))
    best = ", ".join(units.clip(point.name, 30) for point in front)
    label = f"{score} against {scale_name}. Best for their cost: {best}"
    return svg.drawing(width, height, label, *parts, *labels, *marks)


_Box = tuple[float, float, float, float]


def _box(x: float, y: float, radius: float) -> _Box:
    return x - radius, y - radius, x + radius, y + radius


def _place(
    x: float, y: float, width: float, taken: list[_Box], bounds: _Box, *, beside: bool
) -> tuple[_Box, str, float, float] | None:
    """The first free place for a label by its mark, or none; `beside` first where no line runs there."""
    left, right, top, bottom = bounds
    next_to = [("start", x + 10, y + 4, x + 10), ("end", x - 10, y + 4, x - 10 - width)]
    away = [
        ("middle", x, y - 11, x - width / 2),
        ("end", x - 5, y - 9, x - 5 - width),
        ("start", x + 8, y + 16, x + 8),
        ("middle", x, y + 19, x - width / 2),
        ("end", x - 8, y + 16, x - 8 - width),
    ]
    for anchor, at_x, at_y, start in [*next_to, *away] if beside else [*away, *next_to]:
        box = (start, at_y - 10, start + width, at_y + 3)
        inside = box[0] >= left and box[2] <= right and box[1] >= top and box[3] <= bottom
        if inside and not any(
            box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in taken
        ):
            return box, anchor, at_x, at_y
    return None
