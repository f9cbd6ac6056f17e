"""Numbers as text: ``1 min 12 s``, ``2.4 MB``, ``1.2 M``, ``87.1%``, ``2.3x``; unknown ones are a dash."""

from __future__ import annotations

import math
import unicodedata

from feathertune.records import values
from feathertune.tasks import formats
from feathertune.tasks.formats import MINUS, finite

DASH, decimal, percent = formats.DASH, formats.decimal, formats.percent
BETWEEN = " \N{DOUBLE VERTICAL LINE} "  # the two texts of a pair
_NARROW = "\u202f"  # a space between number and unit that does not break
_JOINER = "\u200d"  # makes one emoji of two
_MOST_A_COLUMN = 4  # characters: marks can be heaped up without end


def _three_digits(value: float) -> str:
    if value == 0:
        return "0"
    decimals = min(3, max(0, 2 - math.floor(math.log10(abs(value)))))
    return f"{value:,.{decimals}f}"


def percent_of_weights(share: float | None) -> str:
    """A share that may be tiny: ``0.034%``; exactly 1 is ``100%``."""
    value = finite(share)
    if value is None:
        return DASH
    return f"{_three_digits(round(100 * value, 12))}%"


def in_unit(value: float | None) -> str:
    """A number in the unit of labels, of whatever size."""
    known = finite(value)
    return DASH if known is None else values.in_unit(known).replace("-", MINUS)


def seconds(value: float | None) -> str:
    """A duration in its two largest units."""
    known = finite(value)
    if known is None or known < 0:
        return DASH
    if known == 0:
        return f"0{_NARROW}s"
    if known < 0.0005:
        return f"<{_NARROW}1{_NARROW}ms"
    if known < 0.9995:
        return f"{1000 * known:.0f}{_NARROW}ms"
    if known < 9.95:
        return f"{known:.1f}{_NARROW}s"
    whole = round(known)
    if whole < 60:
        return f"{whole}{_NARROW}s"
    if whole < 3600:
        return _two_units(whole, 60, "min", "s")
    return _two_units(round(whole / 60), 60, "h", "min")


def _two_units(value: int, size: int, large: str, small: str) -> str:
    high, low = divmod(value, size)
    head = f"{high:,}{_NARROW}{large}"
    return f"{head}\u00a0{low}{_NARROW}{small}" if low else head


def size(value: float | None) -> str:
    """Bytes in decimal units; zero is a dash, since nothing is stored."""
    known = finite(value)
    if not known or known < 0:
        return DASH
    for unit in ("B", "kB", "MB", "GB"):
        if known < (1000 if unit == "B" else 999.5):
            return f"{known:.0f}{_NARROW}B" if unit == "B" else f"{_short(known)}{_NARROW}{unit}"
        known /= 1000
    return f"{_short(known)}{_NARROW}TB"


def count(value: float | None) -> str:
    """A large count: ``770``, ``12.3 k``, ``22.7 M``."""
    known = finite(value)
    if known is None:
        return DASH
    for unit in ("", "k", "M"):
        if abs(known) < 999.5:
            return f"{known:.0f}" if not unit else f"{_short(known)}{_NARROW}{unit}"
        known /= 1000
    return f"{_short(known)}{_NARROW}G"


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def whole(value: int) -> str:
    """Return a count with thousands separators."""
    return f"{value:,}"


def times(ratio: float | None) -> str:
    """A factor: ``2.3 ×``."""
    value = finite(ratio)
    if value is None:
        return DASH
    if value > 1000:
        return f">{_NARROW}1,000{_NARROW}×"
    return f"{_three_digits(value) if value < 1 else _short(value)}{_NARROW}×"


def probability(p: float | None) -> str:
    """Return a p value; small ones only as a bound."""
    value = finite(p)
    if value is None:
        return DASH
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def clip(text: object, length: int) -> str:
    """Return at most `length` columns, the last one an ellipsis if something was cut off.

    A character of Chinese or an emoji is two columns wide; an accent is none and stays with its letter.
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
    """Return how many of the first characters fit into that many columns."""
    for place, character in enumerate(string):
        room -= _columns(character)
        if room < 0:
            return place
    return len(string)


def _columns(character: str) -> int:
    """Return the width of a character in Latin letters; 0 for a part of the one before it."""
    if unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
