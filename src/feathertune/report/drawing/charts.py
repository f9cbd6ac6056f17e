"""Charts that compare methods, in a wide and a narrow layout, as inline SVG without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from feathertune.records import SummaryRow
from feathertune.report.drawing import svg
from feathertune.report.drawing.svg import Quantity, Style
from feathertune.report.format import units
from feathertune.tasks.formats import SHARE, ScoreFormat

SMALL_PX = 340.0
WIDE_PX = 900.0
_INTERVAL_PX = 82.0  # width of an interval in percent
_APART_PX = 3.0
_LONGEST_NAME, _NAME_CHARACTER_PX, _SCORE_PX = 32, 7.2, 60.0


@dataclass(frozen=True)
class Estimate:
    """A method's score with its 95% interval, and each seed's score."""

    name: str
    style: Style
    row: SummaryRow
    seeds: tuple[float, ...] = ()
    emphasised: bool = False


@dataclass(frozen=True)
class Tradeoff:
    """A method's cost and score."""

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
    """Draw each score as a dot with whiskers, one line per method; `reference` is a dashed line, such as chance.

    Wide, names are on the left and values on the right of the plot; at `SMALL_PX` both are above the line.
    """
    wide = width > SMALL_PX
    said = [say.interval(one.row.score_low, one.row.score_high) for one in rows]
    room = max([_INTERVAL_PX, *map(svg.text_width, said)])
    longest = min(_LONGEST_NAME, max((len(one.name) for one in rows), default=0))
    small = wide and width < WIDE_PX  # closer to its text, with fewer ticks and smaller marks
    left = max(0.0 if small else 160.0, 24 + _NAME_CHARACTER_PX * longest) if wide else 10.0
    right, step = (width - 70 - room, 36.0) if wide else (width - 12, 46.0)
    letters = _LONGEST_NAME if wide else int((right - room - _SCORE_PX) / _NAME_CHARACTER_PX)
    values = [v for one in rows for v in (one.row.score_low, one.row.score_high, one.row.score_mean, *one.seeds)]
    inset = 0.0 if wide else 10.0  # the outermost labels are wider than the narrow margin
    shares = [*values, *([reference[1]] if reference else [])]
    x = svg.score_scale(say, shares, left + inset, right - inset, 6 if wide and not small else 4)
    top = 22.0 if reference else 6.0
    bottom = top + step * len(rows)
    parts = [svg.line(x(tick), top, x(tick), bottom, "grid") for tick, _ in x.ticks]
    parts += [svg.text(x(tick), bottom + 18, label, class_="tick", anchor="middle") for tick, label in x.ticks]
    if reference:
        at = x(reference[1])
        anchor = "start" if at < left + 60 else "end" if at > right - 60 else "middle"
        parts.append(svg.line(at, top - 4, at, bottom, "reference"))
        parts.append(svg.text(at, top - 9, reference[0], class_="tick", anchor=anchor))
    for index, (one, interval) in enumerate(zip(rows, said, strict=True)):
        y = top + step * index + (step / 2 if wide else step - 13)
        mean, ends = one.row.score_mean, (one.row.score_low, one.row.score_high)
        name_class = "name strong" if one.emphasised else "name"
        if wide:
            parts.append(svg.text(left - 14, y + 4, units.clip(one.name, letters), class_=name_class, anchor="end"))
            parts.append(svg.text(right + 14, y + 4, say.score(mean), class_=name_class))
            parts.append(svg.text(right + 70, y + 4, interval, class_="tick"))
        else:
            parts.append(svg.text(left, y - 14, units.clip(one.name, letters), class_=name_class))
            parts.append(svg.text(right + 4 - room, y - 14, say.score(mean), class_=name_class, anchor="end"))
            parts.append(svg.text(right, y - 14, interval, class_="tick", anchor="end"))
        parts.append(svg.line(x(ends[0]), y, x(ends[1]), y, f"whisker {one.style.colour}"))
        parts += [svg.line(x(end), y - 5, x(end), y + 5, f"whisker {one.style.colour}") for end in ends]
        if len(one.seeds) > 1:
            seed = {"cy": y + 10, "r": 2, "class_": f"seed {one.style.colour}"}
            parts += [svg.element("circle", cx=x(score), **seed) for score in one.seeds]
        hover = f"{units.clip(one.name, 60)}: {say.score(mean)}, 95% CI {interval}"
        parts.append(svg.marker(x(mean), y, one.style, radius=4.5 if small else 6, hover=hover))
    names = ". ".join(f"{units.clip(one.name, 30)} {say.score(one.row.score_mean)}" for one in rows[:12])
    label = f"{score} on the test rows with 95% confidence intervals. {names}"
    return svg.drawing(width, bottom + 26, label, *parts, class_="wide" if wide else "narrow")


@dataclass(frozen=True)
class Point:
    """A method's score with its 95% interval at one point of the axis; `place` names the point."""

    x: float
    place: str
    score: float
    low: float
    high: float


@dataclass(frozen=True)
class Axis:
    """Horizontal axis of `lines`: values with labels, and the margins in px to their left and right."""

    title: str
    ticks: Sequence[tuple[float, str]]
    room: tuple[float, float]
    log: bool = False


def lines(
    methods: Sequence[tuple[str, Style, Sequence[Point]]], axis: Axis, *, label: str, width: float, say: ScoreFormat
) -> Markup:
    """Draw scores with their intervals along an axis, one line per method."""
    wide = width > SMALL_PX
    left, right, top, bottom = 46.0, width - 20, 12.0, 300.0 if wide else 230.0
    # Shift methods apart, so that intervals at one value do not overlap.
    apart = _APART_PX * (len(methods) - 1) / 2
    first, last = axis.ticks[0][0], axis.ticks[-1][0]
    start, end = left + axis.room[0] + apart, right - axis.room[1] - apart
    x = svg.Scale(first, last if last > first else 2 * first, start, end, log=axis.log)
    values = [value for *_, points in methods for one in points for value in (one.low, one.high)]
    y = svg.score_scale(say, values, bottom, top, 5)
    parts = [*svg.y_axis(y, left, right), svg.line(left, bottom, right, bottom, "axis")]
    parts += svg.x_ticks([(x(value), words) for value, words in axis.ticks], bottom, width)
    parts.append(svg.x_title(left, right, bottom + 40, axis.title))
    marks: list[Markup] = []
    for number, (name, style, points) in enumerate(methods):
        places = [(x(one.x) + _APART_PX * number - apart, y(one.score)) for one in points]
        if len(places) > 1:
            parts.append(svg.path(places, f"curve {style.colour}"))
        for (at_x, at_y), one in zip(places, points, strict=True):
            parts.append(svg.line(at_x, y(one.low), at_x, y(one.high), f"whisker {style.colour}"))
            said = f"{say.score(one.score)} ({say.interval(one.low, one.high)})"
            hover = f"{units.clip(name, 60)}, {one.place}: {said}"
            marks.append(svg.marker(at_x, at_y, style, radius=4.5, hover=hover))
    return svg.drawing(width, bottom + 48, label, *parts, *marks, class_="wide" if wide else "narrow")


def pareto_front(points: Sequence[Tradeoff]) -> list[Tradeoff]:
    """Return the methods that no other beats at the same or lower cost, cheapest first."""
    front: list[Tradeoff] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.score)):
        if not front or point.score > front[-1].score:
            front.append(point)
    return front


def tradeoffs(
    points: Sequence[Tradeoff], quantity: Quantity, *, score: str = "Accuracy", say: ScoreFormat = SHARE
) -> Markup:
    """Draw the score against a cost; a step line is the Pareto front."""
    width, height, left, right, top, bottom = SMALL_PX, 268.0, 46.0, SMALL_PX - 14, 12.0, 214.0
    x = svg.amount_scale([point.cost for point in points], quantity, left + 8, right)
    y = svg.score_scale(say, [point.score for point in points], bottom, top, 4)
    parts = svg.y_axis(y, left, right)
    ticks = [(x(tick), label) for tick, label in x.ticks]
    if x.zero_at is not None:
        ticks.insert(0, (x.zero_at, quantity.below))
        parts.append(svg.line(x.start - 12, top, x.start - 12, bottom, "break"))
    parts += svg.x_ticks(ticks, bottom, width)
    parts.append(svg.line(left, bottom, right, bottom, "axis"))
    scale_name = f"{quantity.name}{', logarithmic' if x.log else ''}"
    parts.append(svg.x_title(left, right, bottom + 42, scale_name))
    front = pareto_front(points)
    if len(front) > 1:
        steps = [(x(front[0].cost), y(front[0].score))]
        for point in front[1:]:
            steps += [(x(point.cost), steps[-1][1]), (x(point.cost), y(point.score))]
        parts.append(svg.path([*steps, (right, steps[-1][1])], "front"))
    marks, labels = [], []
    marked = [(x(point.cost), y(point.score)) for point in points]
    taken = [(at_x - 7, at_y - 7, at_x + 7, at_y + 7) for at_x, at_y in marked]
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
    label = f"{score} against {scale_name}. Pareto front: {best}"
    return svg.drawing(width, height, label, *parts, *labels, *marks)


_Box = tuple[float, float, float, float]


def _place(
    x: float, y: float, width: float, taken: list[_Box], bounds: _Box, *, beside: bool
) -> tuple[_Box, str, float, float] | None:
    """Return the first free place for a label near its mark; next to it first, if no line runs there."""
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
