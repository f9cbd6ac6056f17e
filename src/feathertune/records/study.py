"""Data, encoder, searches and runs of a study and what follows from them: the schema of ``study.json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self, TypeVar

from pydantic import Field

from feathertune.records.values import (
    HEAD,
    Calibration,
    Kind,
    LabelSummary,
    Reading,
    Record,
    Scores,
    Seconds,
    Status,
    TaskName,
)

SCHEMA_VERSION = 3


class DataRecord(Record):
    """The data as it was used.

    Attributes:
        labels: In the order of the class indices; empty for numbers.
        shots: Training rows of each class, drawn for each seed; null if all seeds have the same rows.
        class_counts: Rows of each class, by split, in the order of `labels`; a row with several labels is in each.
        numbers: Distribution of the labels by split, if they are numbers; else empty.
        duplicates_removed: Rows that the source dropped because their text had occurred before.
        overlap_removed: Training and validation rows removed because their text is in a later split.
    """

    source: str
    test_source: str | None = None
    fingerprint: str
    task: TaskName = "single_label"
    text_columns: list[str] = Field(default_factory=lambda: ["text"])
    labels: list[str]
    n_train: int
    shots: int | None = None
    n_validation: int
    n_test: int
    class_counts: dict[str, list[int]]
    numbers: dict[str, LabelSummary] = Field(default_factory=dict)
    max_length: int
    reading: Reading = HEAD
    duplicates_removed: int
    overlap_removed: int
    notes: list[str] = Field(default_factory=list)

    def rows_in_words(self) -> str:
        """Return the number of rows of each split, as a clause."""
        drawn = "" if self.shots is None else f" ({self.shots:,} of each class, drawn anew for each seed)"
        validation = f"{self.n_validation:,}" if self.n_validation else "no"
        return f"{self.n_train:,} training{drawn}, {validation} validation, {self.n_test:,} test rows"

    def long_texts(self, base: BaseRecord) -> str:
        """Return the share of long texts and what happened to them, as a clause; in the tokens of a base."""
        if base.truncated_fraction == 0:
            return f"no text has more than {self.max_length:,} tokens"
        said = f"{base.truncated_fraction:.1%} of the texts have more than {self.max_length:,} tokens"
        said += f" and {self.reading.in_words(self.max_length)}"
        unread = base.unread_fraction
        return said if unread is None else f"{said}; {unread:.1%} of all tokens are never read"


class BaseRecord(Record):
    """A pretrained encoder, before anything was trained, and the texts as its tokenizer cuts them.

    Attributes:
        name: Short name, in the rows of a study of several bases.
        fingerprint: Of weights and configuration.
        truncated_fraction: Share of all used texts with more than `DataRecord.max_length` tokens.
        unread_fraction: Share of the tokens of all used texts that were never read; null if it was not counted.
    """

    id: str
    name: str
    revision: str | None = None
    fingerprint: str
    tokenizer_fingerprint: str = ""
    model_type: str
    n_parameters: int
    n_layers: int
    hidden_size: int
    new_parameters: list[str] = Field(default_factory=list)
    truncated_fraction: float
    unread_fraction: float | None = None


class RunRecord(Record):
    """One method with one seed; paths are relative to the study folder.

    Attributes:
        method: Name of the row, which has the base in it if the study has several (`row_name`).
        train_rows: A size of the learning curve; null if all rows were trained on, or none.
        metric: Score of the validation rows by which the epoch, or the strength, was chosen.
        thresholds: Probability from which each label is given; for one label, the divisor of each probability before
            the largest is taken. Found on validation rows, so `validation` is somewhat optimistic. Null without any.
        epochs: Epochs that were trained; `best_epoch` is the one whose state was restored (1 is the first).
        adapter_bytes: Size of the weights that would be shipped.
        peak_memory_bytes: Highest resident memory of the process (device memory on a GPU) during the run.
        train_losses: By epoch, as `validation_losses`, in nats; for numbers squared errors in standard deviations.
        mfu: Operations done over this machine's measured peak, 0 to 1; null if it was not measured.
        predictions_sha256: Of the file `predictions`; a run whose file has another one is done again.
        predicted_seconds: The cost estimate of `seconds.total` for all epochs; null without an estimate.
    """

    id: str
    method: str
    kind: Kind
    seed: int
    train_rows: int | None = None
    status: Literal["complete", "failed"]
    error: str | None = None
    metric: str = "accuracy"
    test: Scores | None = None
    validation: Scores | None = None
    thresholds: list[float] | None = None
    calibration: Calibration | None = None
    trainable_parameters: int = 0
    total_parameters: int = 0
    trainable_percent: float = 0.0
    adapter_bytes: int = 0
    seconds: Seconds
    epochs: int = 0
    best_epoch: int = 0
    steps: int = 0
    train_losses: list[float] = Field(default_factory=list)
    validation_losses: list[float] = Field(default_factory=list)
    tokens_per_second: float | None = None
    examples_per_second: float | None = None
    peak_memory_bytes: int | None = None
    mfu: float | None = None
    predicted_seconds: float | None = None
    predicted_memory_bytes: int | None = None
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)
    metrics: str | None = None
    predictions: str | None = None
    predictions_sha256: str | None = None
    bundle: str | None = None


class SummaryRow(Record):
    """One method over its seeds, on the test rows, with 95% intervals (`feathertune.statistics`).

    Attributes:
        train_rows: A size of the learning curve; null without one.
        metric: The primary metric, which ``score_mean`` and all comparisons are in.
        delta_vs_full: Mean score minus that of `full` on the same base, paired by test row; null without `full`.
        p_vs_full_holm: Two-sided p of that difference, Holm-corrected over the methods.
        p_equivalent: p of two one-sided tests that it is within the study's margin of `full`; not corrected.
        pareto: No other method is better in score without being worse in seconds, memory or parameters.
    """

    method: str
    kind: Kind
    train_rows: int | None = None
    n_seeds: int
    metric: str = "accuracy"
    score_mean: float
    score_sd: float | None
    score_low: float
    score_high: float
    seconds_mean: float
    memory_mean_bytes: float | None
    trainable_parameters: int
    adapter_bytes: int
    delta_vs_full: float | None = None
    delta_low: float | None = None
    delta_high: float | None = None
    p_vs_full_holm: float | None = None
    p_equivalent: float | None = None
    speedup_vs_full: float | None = None
    memory_vs_full: float | None = None
    pareto: bool = False
    predicted_seconds: float | None = None
    predicted_memory_bytes: float | None = None


class MoreLabels(Record):
    """Gain of a method from the last doubling of the training rows, paired by test row, with its 95% interval."""

    method: str
    fewer: int
    rows: int
    gain: float
    low: float
    high: float


Sized = TypeVar("Sized", RunRecord, SummaryRow)


class PairRecord(Record):
    """Two methods on the same test rows, with 95% intervals.

    Attributes:
        delta: Mean score (the study's metric) of a minus that of b, over rows and seeds.
        rows_low: Lower end over rows alone, by paired bootstrap of the trained models.
        p: Two-sided p of the difference; with one seed each, of an exact test if answers are right or wrong.
        p_holm: The same, Holm-corrected over all pairs of the study.
    """

    a: str
    b: str
    delta: float
    low: float
    high: float
    rows_low: float
    rows_high: float
    p: float
    p_holm: float


class TrialRecord(Record):
    """One training of a search, scored on validation rows alone; ``pruned`` if worse than the others at its last epoch.

    Attributes:
        score: The study's metric at the best epoch; null if the trial failed before the first.
        log_loss: At the same epoch, in nats; for numbers the mean squared error.
    """

    number: int
    options: dict[str, Any]
    status: Literal["complete", "pruned", "failed"]
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


class ScoreOfBucket(Record):
    """A method's score (the study's metric) on the test rows of a bucket, with its 95% interval."""

    method: str
    score: float
    low: float
    high: float


class LengthBucket(Record):
    """Test rows of similar length in a base's tokens, and the share of them that no method trained on it read.

    `base` is null in a study of one base.
    """

    base: str | None = None
    shortest: int
    longest: int
    n: int
    unread_fraction: float
    scores: list[ScoreOfBucket]


class Coded(Record):
    """A statement as a code with parameters: JSON values, in which scores and differences are fractions."""

    code: str
    parameters: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def of(cls, code: str, **parameters: Any) -> Self:  # noqa: ANN401 - any JSON value
        """Make one from keyword arguments."""
        return cls(code=code, parameters=parameters)


class Reason(Coded):
    """Why a method is recommended, or what else the comparison shows."""


class Caveat(Coded):
    """Something that speaks against relying on the recommendation."""


class Verdict(Record):
    """The recommended method, the reasons, and what speaks against it; `feathertune.study.verdict` has the rules.

    `feathertune.report.wording` turns the codes into sentences.
    """

    recommended: str | None
    reasons: list[Reason] = Field(default_factory=list)
    caveats: list[Caveat] = Field(default_factory=list)


class StudyRecord(Record):
    """A whole study; ``study.json``.

    Attributes:
        left_out: Methods that were asked for as one of all and cannot serve the encoder: name to reason.
        off_budget: Methods that train over a quarter more or less than `parameter_budget`: name to how many, and why.
        margin: Largest difference in score that counts as none, as a fraction or a correlation (``study.margin``).
        n_mislabelled: Test rows (or single labels of them) that look mislabelled; ``mislabelled.csv`` lists them.
        more_labels: For a learning curve, whose largest size all comparisons and the verdict are about.
    """

    schema_version: int = SCHEMA_VERSION
    created: str
    status: Status
    data: DataRecord
    bases: list[BaseRecord]
    hardware: dict[str, Any]
    versions: dict[str, str]
    command: list[str]
    planned_runs: list[str]
    runs: list[RunRecord]
    summary: list[SummaryRow]
    verdict: Verdict
    metric: str
    descriptions: dict[str, str] = Field(default_factory=dict)
    left_out: dict[str, str] = Field(default_factory=dict)
    parameter_budget: int | None = None
    off_budget: dict[str, str] = Field(default_factory=dict)
    margin: float | None = None
    pairs: list[PairRecord] = Field(default_factory=list)
    n_mislabelled: int = 0
    more_labels: list[MoreLabels] = Field(default_factory=list)
    searches: list[SearchRecord] = Field(default_factory=list)
    by_length: list[LengthBucket] = Field(default_factory=list)

    def buckets_of(self, base: BaseRecord) -> list[LengthBucket]:
        """Return the buckets in the tokens of a base."""
        return [bucket for bucket in self.by_length if bucket.base in (None, base.name)]

    def base_ids(self) -> str:
        """Return the ids of the bases, as a clause."""
        return ", ".join(base.id for base in self.bases)


def at_largest_size(rows: Sequence[Sized]) -> list[Sized]:
    """Return the runs or rows with the most training rows, and those without a number of them; all without a curve."""
    largest = max((row.train_rows for row in rows if row.train_rows is not None), default=None)
    return [row for row in rows if row.train_rows in (None, largest)]
