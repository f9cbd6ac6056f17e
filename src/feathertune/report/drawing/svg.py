"""Building blocks of charts: escaped elements, scales, ticks and markers.

Colours are classes (``k0`` ... ``k7``), so that light and dark share one drawing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from feathertune.report.format import units
from feathertune.tasks.formats import ScoreFormat

SHAPES = ("circle", "square", "diamond", "triangle", "wedge", "plus")
N_COLOURS = 6  # of trained methods; k0 is for baselines and k7 for full fine-tuning
_CHARACTER_PX = 6.3  # of an 11 px label, a generous estimate


@dataclass(frozen=True)
class Style:
    """A method's style in all charts: colour class, shape, and filled or hollow."""

    colour: str
    shape: str
    hollow: bool = False


def element(name: str, *children: object, **attributes: object) -> Markup:
    """Return an escaped SVG element; ``class_`` and ``stroke_width`` become ``class`` and ``stroke-width``."""
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _number(value))
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(escape(child) for child in children)
    tag = Markup(name)  # names are literals of this package
    return Markup("<{0}{1}>{2}</{0}>").format(tag, written, inner) if inner else Markup("<{}{}/>").format(tag, written)


def _number(value: object) -> object:
    return f"{value:.1f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def drawing(width: float, height: float, label: str, *children: object, class_: str = "") -> Markup:
    """Return the outer element, with a label for screen readers."""
    return element(
        "svg",
        *children,
        class_=f"chart {class_}".strip(),
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        role="img",
        aria_label=label,
    )


def text(x: float, y: float, content: object, *, class_: str = "", anchor: str | None = None) -> Markup:
    """Return a label; `y` is its baseline."""
    return element("text", content, x=x, y=y, class_=class_ or None, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Return a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Iterable[tuple[float, float]], class_: str) -> Markup:
    """Return a line through points."""
    return element("path", d="M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points), class_=class_)


_ARM, _END = 0.45, 1.15
_QUARTER = [(_ARM, -_END), (_ARM, -_ARM), (_END, -_ARM)]
_PLUS = [*_QUARTER, *((-y, x) for x, y in _QUARTER), *((-x, -y) for x, y in _QUARTER), *((y, -x) for x, y in _QUARTER)]


def marker(x: float, y: float, style: Style, *, radius: float = 5.5, hover: str = "", class_: str = "") -> Markup:
    """Return a method's mark, centred at a point, with its hover text."""
    title = element("title", hover) if hover else ""
    classes = " ".join(filter(None, ["mark", style.colour, "hollow" if style.hollow else "", class_]))
    r = radius
    if style.shape == "circle":
        return element("circle", title, cx=x, cy=y, r=r, class_=classes)
    corners = {
        "square": [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
        "diamond": [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)],
        "triangle": [(0, -1.2), (1.1, 0.85), (-1.1, 0.85)],
        "wedge": [(0, 1.2), (1.1, -0.85), (-1.1, -0.85)],
        "plus": _PLUS,
    }[style.shape]
    d = "M" + "L".join(f"{x + dx * r:.1f} {y + dy * r:.1f}" for dx, dy in corners) + "Z"
    return element("path", title, d=d, class_=classes)


def text_width(content: str) -> float:
    """Return a generous estimate of a label's width in px."""
    return _CHARACTER_PX * len(content)


@dataclass(frozen=True)
class Scale:
    """Map from values to positions on an axis; on a logarithmic one, values below `floor` map to `zero_at`."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[tuple[float, str], ...] = ()
    log: bool = False
    floor: float = 0.0
    zero_at: float | None = None

    def __call__(self, value: float) -> float:
        """Return the position of a value, in px."""
        if self.log:
            if value < self.floor:
                return self.start if self.zero_at is None else self.zero_at
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


@dataclass(frozen=True)
class Quantity:
    """Quantity on an axis: its name, its format, and the floor below which values count as zero."""

    name: str
    say: Callable[[float], str]
    floor: float
    below: str
    log_steps: tuple[float, ...] = ()


SECONDS = Quantity(
    "time", units.seconds, 1e-3, "<\u202f1\u202fms", (1e-3, 1e-2, 0.1, 1, 10, 60, 600, 3600, 36000, 360000)
)
BYTES = Quantity("peak memory", units.size, 1, "0")
PARAMETERS = Quantity("trained parameters", units.count, 1, "0")


def nice_step(span: float, n: int) -> float:
    """Return the step, 1, 2 or 5 times a power of ten, that divides a span into about `n` parts."""
    rough = span / max(n, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def nice_range(low: float, high: float, n: int) -> tuple[float, float, list[float]]:
    """Return round bounds around two values, and the ticks between them."""
    if high <= low:
        high = low + (abs(low) or 1.0) * 0.1
    step = nice_step(high - low, n)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return first * step, last * step, [index * step for index in range(first, last + 1)]


def score_scale(say: ScoreFormat, values: Sequence[float], start: float, end: float, n: int = 4) -> Scale:
    """Return a linear axis for scores, limited to their possible range."""
    low, high = min(values), max(values)
    padding = max(0.06 * (high - low), 0.005)
    low, high, ticks = nice_range(max(say.low, low - padding), min(1.0, high + padding), n)
    return Scale(low, high, start, end, tuple((tick, say.tick(tick, ticks[1] - ticks[0])) for tick in ticks))


def amount_scale(values: Sequence[float], quantity: Quantity, start: float, end: float) -> Scale:
    """Return an axis for amounts: logarithmic if they differ more than twentyfold, else linear from zero."""
    positive = [value for value in values if value >= quantity.floor]
    if positive and max(positive) / min(positive) >= 20:
        return _log_scale(positive, len(positive) < len(values), quantity, start, end)
    low, high, ticks = nice_range(0.0, 1.05 * max(values) or 1.0, 4)
    return Scale(low, high, start, end, tuple((tick, _tick(quantity, tick)) for tick in ticks))


def _tick(quantity: Quantity, value: float) -> str:
    return quantity.say(value).replace(".0\u202f", "\u202f") if value else "0"


def _log_scale(positive: list[float], zeros: bool, quantity: Quantity, start: float, end: float) -> Scale:
    low, high = min(positive) / 1.6, max(positive) * 1.6
    inner = start + 44 if zeros else start
    steps = quantity.log_steps or tuple(10.0**exponent for exponent in range(0, 19))
    inside = [step for step in steps if low <= step <= high]
    if len(inside) < 2:
        inside = [factor * 10.0**e for e in range(-3, 19) for factor in (1, 2, 5) if low <= factor * 10.0**e <= high]
    every = math.ceil(len(inside) / 5)
    ticks = tuple((step, _tick(quantity, step)) for step in inside[::every])
    return Scale(low, high, inner, end, ticks, True, quantity.floor, start + 6 if zeros else None)


def key(style: Style) -> Markup:
    """Return a method's mark alone, for text and tables."""
    return element("svg", marker(8, 8, style, radius=5), class_="key", viewBox="0 0 16 16", aria_hidden="true")


def y_axis(y: Scale, left: float, right: float) -> list[Markup]:
    """Return the grid lines and labels of a vertical axis."""
    return [
        *(line(left, y(tick), right, y(tick), "grid") for tick, _ in y.ticks),
        *(text(left - 7, y(tick) + 4, label, class_="tick", anchor="end") for tick, label in y.ticks),
    ]


def x_ticks(ticks: Iterable[tuple[float, str]], bottom: float, width: float) -> list[Markup]:
    """Return the ticks of a horizontal axis, with the labels that do not overlap."""
    parts, reached = [], -1.0
    for at, label in ticks:
        half = text_width(label) / 2
        parts.append(line(at, bottom, at, bottom + 4, "axis"))
        anchor = "end" if at + half > width else "middle"
        if at - (2 * half if anchor == "end" else half) > reached:
            parts.append(text(at, bottom + 18, label, class_="tick", anchor=anchor))
            reached = at + half
    return parts


def x_title(left: float, right: float, y: float, title: str) -> Markup:
    """Return the title below a horizontal axis."""
    return text((left + right) / 2, y, f"{title} →", class_="title", anchor="middle")
