"""The cost estimate of a study: the schema of ``cost_estimate.json``. Loads without torch."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from feathertune.records import Kind, Record, Seconds

COST_FILE = "cost_estimate.json"


class CostRow(Record):
    """Estimated cost of one run of a method; the study has `n_runs` such runs.

    Attributes:
        train_rows: Number of training rows, in a learning curve; null for all rows.
        seconds: Seconds for all epochs; null if the method failed while it was measured.
        own_seconds: Seconds that each run adds to the study, without shared work.
        shared_seconds: Seconds of the work that these runs share: hidden states and the trials of a search.
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
    """Estimated seconds of a study's runs on this machine; counts shared work once, and leaves out reading the data."""

    plan: str
    rows: list[CostRow]
    study_seconds: float
    measured_seconds: float
    hardware: dict[str, Any]
    versions: dict[str, str]

    def row(self, method: str, train_rows: int | None = None) -> CostRow | None:
        """Return a method's row; None if it is missing."""
        return next((row for row in self.rows if (row.method, row.train_rows) == (method, train_rows)), None)
