"""The comparison of two studies as values; `feathertune.study.versus.comparison` makes it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from feathertune.records import Record, SummaryRow

Group = Literal["data", "base", "settings", "versions", "hardware"]
# Why nothing is tested, or not a certain method.
Untested = Literal["other metric", "other test rows", "test rows cannot be read", "predictions cannot be read"]


class Differing(Record):
    """A setting by its dotted name, or a field of ``study.json``; null if a study has no value for it."""

    group: Group
    key: str
    a: Any = None
    b: Any = None


class Side(Record):
    """One of the two studies; `score` is the name of its primary metric."""

    folder: str
    created: str
    status: str
    base: str
    source: str
    n_train: int
    n_test: int
    runs_complete: int
    runs_planned: int
    metric: str
    score: str


class Paired(Record):
    """A difference in the primary metric, B minus A, paired by test row, with its 95% interval.

    Attributes:
        p: Two-sided, Holm-corrected over the methods for which something differs, and separately over the others.
        alike: Every seed is right on the same rows in both, or orders the rows in the same way.
    """

    difference: float
    low: float
    high: float
    p: float
    alike: bool


class MethodPair(Record):
    """A method's rows in both studies, null if missing; `causes` names what differs for this method."""

    method: str
    a: SummaryRow | None
    b: SummaryRow | None
    paired: Paired | None = None
    untested: Untested | None = None
    causes: list[str] = Field(default_factory=list)


class Comparison(Record):
    """The comparison of two studies, as ``feathertune report A B --json`` prints it."""

    a: Side
    b: Side
    untested: Untested | None
    differing: list[Differing]
    methods: list[MethodPair]
    verdict: list[str]
    notes: list[str] = Field(default_factory=list)

    @property
    def shared(self) -> list[MethodPair]:
        """The methods with results in both studies."""
        return [pair for pair in self.methods if pair.a and pair.b]
