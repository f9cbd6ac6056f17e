"""What a study will cost, as it was measured before: the schema of ``price.json``. Loads without torch.

Not for what it did cost: that stands in `feathertune.records`, beside what was said here.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from feathertune.records import Kind, Record, Seconds

PRICE_FILE = "price.json"


class PriceRow(Record):
    """What one run of a method will cost, from a few measured steps.

    Attributes:
        seconds: As a run's record has them, for all epochs: one that stops early takes less.
        memory_bytes: As `RunRecord.peak_memory_bytes`.
        own_seconds: By how much a run makes its study longer: without what it shares with others, with its bundle.
        train_rows: Of a learning curve.
        n_runs: In the study, with so many rows.
        error: Why it cannot be run, as far as that is known from trying; the other numbers are null then.
        notes: What the numbers rest on, where that is not obvious.
    """

    method: str
    kind: Kind
    train_rows: int | None = None
    n_runs: int
    seconds: Seconds | None = None
    memory_bytes: int | None = None
    own_seconds: float | None = None
    error: str | None = None
    notes: list[str] = Field(default_factory=list)


class Price(Record):
    """What a study will cost on this machine.

    Attributes:
        plan: Fingerprint of the plan that it belongs to.
        study_seconds: Of all runs together, what they share counted once; reading and tokenising not counted.
        measured_seconds: What finding that out took.
    """

    plan: str
    rows: list[PriceRow]
    study_seconds: float
    measured_seconds: float
    hardware: dict[str, Any]
    versions: dict[str, str]

    def row(self, method: str, train_rows: int | None = None) -> PriceRow | None:
        """What it says of a method."""
        return next((row for row in self.rows if (row.method, row.train_rows) == (method, train_rows)), None)
