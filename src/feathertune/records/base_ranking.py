"""The schema of a ranking of base models, the result of ``feathertune bases``."""

from __future__ import annotations

from feathertune.records.values import Record, TaskName


class RankedBase(Record):
    """One base model, ranked by `score`: the share of the targets' variance that a probe of all layers explains.

    `low` and `high` are the 95% interval of the score; `behind` is the best base's score minus this one's, paired by
    row, with its own interval. All but `base` and `error` is null if the base cannot be used.
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
    n_layers: int | None = None
    seconds_per_1000: float | None = None  # of the forward pass over 1,000 texts
    seconds: float | None = None  # all that was done for this base: loading, tokenizing, forward pass, probe
    unread: float | None = None  # share of the texts' tokens that was truncated

    @property
    def separated(self) -> bool:
        """The rows suffice to tell this base from the best one."""
        return self.behind_low is not None and self.behind_low > 0


class BaseRanking(Record):
    """Base models from best to worst, those that cannot be used last."""

    source: str
    task: TaskName
    n_rows: int  # training rows that were read
    max_length: int
    bases: list[RankedBase]

    @property
    def failed(self) -> list[RankedBase]:
        """Bases that cannot be used."""
        return [row for row in self.bases if row.error is not None]

    @property
    def tied(self) -> list[RankedBase]:
        """The best base, and those that these rows do not separate from it; empty if no base can be used."""
        return [row for row in self.bases if row.error is None and not row.separated]
