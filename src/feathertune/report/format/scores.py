"""How the leading score is said and drawn: a share of right answers in percent, a correlation as the number it is.

A value for each, so that no table and no chart asks which it is. Not for the verdict, whose sentences have words of
their own (`feathertune.study.verdict.wording`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from feathertune.records import MetricName
from feathertune.report.drawing import svg
from feathertune.report.format import units


@dataclass(frozen=True)
class Saying:
    """One way to say scores.

    Attributes:
        score: One score; `finely` with another digit.
        interval: From its low to its high end.
        difference: Of two scores, with its sign; `span` of the low and the high end of one.
        unit: Of differences, to stand after them.
        differences: What they are, in a sentence.
        axis: A scale for scores, from a place on the page to another, with so many ticks.
    """

    score: Callable[[float | None], str]
    finely: Callable[[float | None], str]
    interval: Callable[[float | None, float | None], str]
    difference: Callable[[float | None], str]
    span: Callable[[float | None, float | None], str]
    unit: str
    differences: str
    axis: Callable[[Sequence[float], float, float, int], svg.Scale]

    def within(self, difference: float) -> str:
        """A difference without its sign, and its unit."""
        return f"{self.difference(abs(difference)).removeprefix('+')}{self.unit}"


SHARES = Saying(
    score=units.percent,
    finely=partial(units.percent, decimals=2),
    interval=units.interval,
    difference=units.points,
    span=units.span,
    unit=" points",
    differences="in percentage points",
    axis=svg.share_scale,
)
CORRELATIONS = Saying(
    score=units.correlation,
    finely=partial(units.correlation, decimals=4),
    interval=units.correlation_interval,
    difference=units.gain,
    span=units.gain_span,
    unit="",
    differences="of correlations",
    axis=svg.correlation_scale,
)


def saying(metric: MetricName) -> Saying:
    """How a leading score is said."""
    return CORRELATIONS if metric == "spearman" else SHARES
