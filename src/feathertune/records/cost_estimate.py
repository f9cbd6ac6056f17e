"""The cost estimate of a study: the schema of ``cost_estimate.json``. Loads without torch."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from feathertune.records import Kind, Record, Seconds

COST_FILE = "cost_estimate.json"


class CostRow(Record):
    """Estimated cost of one run of a method, which stands for `n_runs` runs of the study.

    Attributes:
        train_rows: A size of the learning curve; null for all rows.
        seconds: For all epochs; null if the method failed when it was measured.
        own_seconds: Seconds that each run adds to the study, without what runs share.
        shared_seconds: Seconds that these runs add together: hidden states and the trials of a search.
    """

    method: str
    kind: Kind
    train_rows: int | None = None
    n_runs: int
    seconds: Seconds | None = None
    memory_bytes: int | None = None
    own_seconds: float = 0.0
    shared_seconds: float = 0.0
    error: str | None = None
    notes: list[str] = Field(default_factory=list)


class CostEstimate(Record):
    """Estimated seconds of all runs of a study on this machine, shared work counted once, without reading its data."""

    plan: str
    rows: list[CostRow]
    study_seconds: float
    measured_seconds: float
    hardware: dict[str, Any]
    versions: dict[str, str]

    def row(self, method: str, train_rows: int | None = None) -> CostRow | None:
        """Return the row of this name."""
        return next((row for row in self.rows if (row.method, row.train_rows) == (method, train_rows)), None)
