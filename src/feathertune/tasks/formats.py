"""Format scores as text: shares in percent, correlations as plain numbers; None and infinite values as a dash."""

from __future__ import annotations

import math
from dataclasses import dataclass

DASH = "–"
MINUS = "\u2212"


def finite(value: float | None) -> float | None:
    """Return the value, or None if it is not finite."""
    return value if value is not None and math.isfinite(value) else None


def capitalised(text: str) -> str:
    """Return text for the start of a sentence or a table head; names such as MCC stay as they are."""
    return text[:1].upper() + text[1:]


def percent(share: float | None, decimals: int = 1) -> str:
    """Return a share of 1 in percent: ``85.3%``."""
    value = finite(share)
    return DASH if value is None else f"{100 * value:.{decimals}f}%"


def decimal(value: float | None, decimals: int = 3) -> str:
    """Return a plain number with a fixed number of decimals."""
    found = finite(value)
    # Rounding first: -0.0001 is 0, not minus 0.
    return DASH if found is None else f"{round(found, decimals) + 0.0:.{decimals}f}".replace("-", MINUS)


@dataclass(frozen=True)
class ScoreFormat:
    """Format of a score, its differences and its intervals.

    Attributes:
        factor: Factor from a score to the number shown, which has this many `decimals`.
        suffix: Text directly after a score; `unit` follows a difference, and includes its space.
        low: Lower end of the scale; the upper end is 1.
    """

    factor: float
    decimals: int
    suffix: str
    unit: str
    differences: str
    low: float
    tick_decimals: int

    def score(self, value: float | None, *, more: int = 0) -> str:
        """Return one score, with `more` decimals than usual: ``85.3%`` or ``0.843``."""
        number = self._number(value, more)
        return number if number == DASH else number + self.suffix

    def finely(self, value: float | None) -> str:
        """Return one score with one more decimal."""
        return self.score(value, more=1)

    def interval(self, low: float | None, high: float | None) -> str:
        """Return an interval: ``83.1–87.5%``; ``−0.031 to 0.044`` if a minus could be mistaken for a dash."""
        ends = (self._number(low), self._number(high))
        if DASH in ends:
            return DASH
        return (" to " if MINUS in "".join(ends) else DASH).join(ends) + self.suffix

    def difference(self, value: float | None) -> str:
        """Return a signed difference without its unit: ``+1.2``, ``−0.012``."""
        number = self._number(value)
        if number == DASH or number.startswith(MINUS) or float(number) == 0:
            return number
        return f"+{number}"

    def span(self, low: float | None, high: float | None) -> str:
        """Return both ends of a difference's interval: ``−0.4 to +2.0``."""
        ends = (self.difference(low), self.difference(high))
        return DASH if DASH in ends else " to ".join(ends)

    def tick(self, value: float, step: float) -> str:
        """Return a label on an axis with ticks this far apart."""
        decimals = max(self.tick_decimals, -math.floor(math.log10(self.factor * step) + 1e-9))
        return decimal(self.factor * value, decimals) + self.suffix

    def within(self, difference: float) -> str:
        """Return the size of a difference with its unit: ``1.0 points``."""
        return f"{self._number(abs(difference))}{self.unit}"

    def _number(self, value: float | None, more: int = 0) -> str:
        found = finite(value)
        return DASH if found is None else decimal(self.factor * found, self.decimals + more)


SHARE = ScoreFormat(100.0, 1, "%", " points", "in percentage points", low=0.0, tick_decimals=0)
CORRELATION = ScoreFormat(1.0, 3, "", "", "in units of the metric", low=-1.0, tick_decimals=1)
