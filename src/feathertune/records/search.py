"""Trials of a search for options."""

from __future__ import annotations

from typing import Any, Literal

from feathertune.records.values import Record

TrialStatus = Literal["complete", "pruned", "failed"]


class TrialRecord(Record):
    """One training of a search, scored on validation rows alone; ``pruned`` if worse than the others at its last epoch.

    Attributes:
        score: The study's metric at the best epoch; null if the trial failed before the first.
        log_loss: At the same epoch, in nats; for numbers the mean squared error.
    """

    number: int
    options: dict[str, Any]
    status: TrialStatus
    score: float | None = None
    log_loss: float | None = None
    epochs: int = 0
    seconds: float = 0.0
    error: str | None = None


class SearchRecord(Record):
    """Search for the options of one method.

    Attributes:
        train_rows: A size of the learning curve; null for all rows.
        space: The values of each option, or the lowest and the highest of a rate.
        chosen: Number of the trial whose options the runs have; null if all failed, and the runs keep the defaults.
        trials: In the order in which they were done; number 0 is the method without a search.
    """

    method: str
    train_rows: int | None = None
    space: dict[str, list[Any]]
    chosen: int | None
    trials: list[TrialRecord]
