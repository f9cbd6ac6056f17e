"""The schema of a ranking of base models, the result of ``feathertune bases``."""

from __future__ import annotations

from feathertune.records.values import Record, TaskName


class RankedBase(Record):
    """Rank and cost of one base model; if it cannot be used, all fields but `base` and `error` are null.

    `score` is the share of the targets' variance that a linear probe explains, with its 95% confidence interval.
    `behind` is the best base's score minus this one's, paired by row.
    """

    base: str
    error: str | None = None
    score: float | None = None
    low: float | None = None
    high: float | None = None
    behind: float | None = None
    behind_low: float | None = None
    behind_high: float | None = None
    n_parameters: int | None = None
    seconds_per_1000: float | None = None  # forward pass over 1,000 texts
    seconds: float | None = None  # total: loading, tokenizing, forward pass and probe
    unread: float | None = None  # share of the texts' tokens that are unread


class BaseRanking(Record):
    """Base models from best to worst; those that cannot be used come last."""

    source: str
    task: TaskName
    n_rows: int  # number of training rows read
    max_length: int
    bases: list[RankedBase]

    @property
    def failed(self) -> list[RankedBase]:
        """Base models that cannot be used."""
        return [row for row in self.bases if row.error is not None]

    @property
    def tied(self) -> list[RankedBase]:
        """The best base model, and those that these rows do not separate from it; empty if none can be used."""
        return [row for row in self.bases if row.behind_low is not None and row.behind_low <= 0]
