"""Format numbers and JSON values: ``1 min 12 s``, ``2.4 MB``, ``1.2 M``, ``87.1%``; unknown ones become a dash."""

from __future__ import annotations

import functools
import json
import math
import unicodedata
from collections.abc import Callable
from typing import Any

from feathertune.records import values
from feathertune.tasks import formats
from feathertune.tasks.formats import MINUS, finite

DASH, decimal, percent = formats.DASH, formats.decimal, formats.percent
BETWEEN = " \N{DOUBLE VERTICAL LINE} "  # the two texts of a pair
_NARROW = "\u202f"  # no-break space between number and unit
_JOINER = "\u200d"  # joins two emoji into one
_MOST_A_COLUMN = 4  # characters; combining marks can pile up without limit


def _or_dash(say: Callable[[float], str]) -> Callable[[float | None], str]:
    """Return a formatter that gives a dash for an unknown or infinite number."""

    @functools.wraps(say)
    def said(value: float | None) -> str:
        known = finite(value)
        return DASH if known is None else say(known)

    return said


def _three_digits(value: float) -> str:
    if value == 0:
        return "0"
    decimals = min(3, max(0, 2 - math.floor(math.log10(abs(value)))))
    return f"{value:,.{decimals}f}"


@_or_dash
def percent_of_weights(share: float) -> str:
    """Return a share that may be tiny: ``0.034%``; exactly 1 is ``100%``."""
    return f"{_three_digits(round(100 * share, 12))}%"


@_or_dash
def in_unit(value: float) -> str:
    """Return a number in the labels' own unit."""
    return values.in_unit(value).replace("-", MINUS)


@_or_dash
def seconds(value: float) -> str:
    """Return a duration in its two largest units."""
    if value < 0:
        return DASH
    if value == 0:
        return f"0{_NARROW}s"
    if value < 0.0005:
        return f"<{_NARROW}1{_NARROW}ms"
    if value < 0.9995:
        return f"{1000 * value:.0f}{_NARROW}ms"
    if value < 9.95:
        return f"{value:.1f}{_NARROW}s"
    whole = round(value)
    if whole < 60:
        return f"{whole}{_NARROW}s"
    if whole < 3600:
        return _two_units(whole, 60, "min", "s")
    return _two_units(round(whole / 60), 60, "h", "min")


def _two_units(value: int, size: int, large: str, small: str) -> str:
    high, low = divmod(value, size)
    head = f"{high:,}{_NARROW}{large}"
    return f"{head}\u00a0{low}{_NARROW}{small}" if low else head


@_or_dash
def size(value: float) -> str:
    """Return bytes in decimal units; zero is a dash, since nothing is stored."""
    if value <= 0:
        return DASH
    for unit in ("B", "kB", "MB", "GB"):
        if value < (1000 if unit == "B" else 999.5):
            return f"{value:.0f}{_NARROW}B" if unit == "B" else f"{_short(value)}{_NARROW}{unit}"
        value /= 1000
    return f"{_short(value)}{_NARROW}TB"


@_or_dash
def count(value: float) -> str:
    """Return a large count: ``770``, ``12.3 k``, ``22.7 M``."""
    for unit in ("", "k", "M"):
        if abs(value) < 999.5:
            return f"{value:.0f}" if not unit else f"{_short(value)}{_NARROW}{unit}"
        value /= 1000
    return f"{_short(value)}{_NARROW}G"


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def whole(value: int) -> str:
    """Return a count with thousands separators."""
    return f"{value:,}"


@_or_dash
def times(ratio: float) -> str:
    """Return a factor: ``2.3x``."""
    if ratio > 1000:
        return f">{_NARROW}1,000x"
    return f"{_three_digits(ratio) if ratio < 1 else _short(ratio)}x"


@_or_dash
def probability(p: float) -> str:
    """Return a p-value; small ones only as a bound."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def clip(text: object, length: int) -> str:
    """Return text shortened to `length` columns, ending in an ellipsis if something was cut.

    Chinese characters and emoji are two columns wide; an accent has no width and stays with its letter.
    """
    string = str(text)
    if string.isascii():
        return string if len(string) <= length else string[: length - 1].rstrip() + "…"
    most = string[: _MOST_A_COLUMN * length]
    if _fitting(most, length) == len(string):
        return string
    end = _fitting(most, length - 1)
    while 0 < end < len(most) and (not _columns(string[end]) or string[end - 1] == _JOINER):
        end -= 1
    return string[:end].rstrip() + "…"


def _fitting(string: str, room: int) -> int:
    """Return how many leading characters fit into `room` columns."""
    for place, character in enumerate(string):
        room -= _columns(character)
        if room < 0:
            return place
    return len(string)


def _columns(character: str) -> int:
    """Return a character's width in columns; 0 if it combines with the previous one."""
    if unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def plain(key: str, value: Any, length: int) -> str:  # noqa: ANN401 - any JSON value
    """Return a JSON value as text of at most `length` characters; a `key` that ends in ``_bytes`` is a size."""
    if key.endswith("_bytes") and isinstance(value, (int, float)):
        return size(value)
    if value is None:
        return DASH
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = ", ".join(value)
    elif isinstance(value, dict):
        value = ", ".join(f"{name.replace('_', ' ')} {plain(name, item, length)}" for name, item in value.items())
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return clip(said, length)
