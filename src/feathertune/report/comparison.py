"""What is said of two studies side by side, as values; `feathertune.study.versus.comparison` makes them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from feathertune.records import Record, SummaryRow

Group = Literal["data", "base", "settings", "versions", "hardware"]


class Differing(Record):
    """One thing that is not the same; ``None`` where a study says nothing of it.

    Attributes:
        key: A setting by its dotted name, or a field of ``study.json``.
        method: The only method that it concerns; null for all.
    """

    group: Group
    key: str
    a: Any = None
    b: Any = None
    method: str | None = None


class Side(Record):
    """One of the two studies.

    Attributes:
        score: What its leading score is called.
    """

    folder: str
    created: str
    status: str
    base: str
    source: str
    n_train: int
    n_test: int
    runs_complete: int
    runs_planned: int
    score: str = "accuracy"


class Paired(Record):
    """A difference in the leading score, B minus A, paired by test row, with its 95 % interval.

    Attributes:
        p: Two-sided, Holm-corrected over the methods for which something differs, and apart from them over the rest.
        alike: Both are right on the same rows, or order them alike, seed by seed.
    """

    difference: float
    low: float
    high: float
    p: float
    alike: bool


class MethodPair(Record):
    """A method's rows in both studies; null where one has no result for it.

    Attributes:
        paired: Null where there is no test; `untested` says why then.
        causes: What differs for this method, by name.
    """

    method: str
    a: SummaryRow | None
    b: SummaryRow | None
    paired: Paired | None = None
    untested: str | None = None
    causes: list[str] = Field(default_factory=list)


class Comparison(Record):
    """All that is said of two studies; what ``feathertune report A B --json`` prints.

    Attributes:
        same_test_rows: Null where a study's test rows cannot be read.
    """

    a: Side
    b: Side
    same_test_rows: bool | None
    differing: list[Differing]
    methods: list[MethodPair]
    verdict: list[str]
    notes: list[str] = Field(default_factory=list)
