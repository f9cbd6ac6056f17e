"""What a search for options leaves behind: every trial. Not for the runs after it: `feathertune.records.study`."""

from __future__ import annotations

from typing import Any, Literal

from feathertune.records.values import Record

TrialStatus = Literal["complete", "pruned", "failed"]


class TrialRecord(Record):
    """One training of a search, scored on validation rows alone.

    Attributes:
        options: The values of the options that are searched.
        status: ``pruned`` where it was stopped as worse than the others at that epoch.
        score: Of its best epoch, the study's metric; `log_loss` likewise, in nats, of numbers the mean squared
            error. Null where it failed before the first.
        epochs: That were trained.
        seconds: Wall clock.
        error: Why it failed.
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
    """How the options of one method were found.

    Attributes:
        train_rows: Of a learning curve; null where all rows were trained on.
        space: The values of each option, or the lowest and the highest of a rate.
        chosen: Number of the trial whose options the runs have; null where all failed, and the runs keep the defaults.
        trials: In the order in which they were done; number 0 is the method without a search.
    """

    method: str
    train_rows: int | None = None
    space: dict[str, list[Any]]
    chosen: int | None
    trials: list[TrialRecord]
