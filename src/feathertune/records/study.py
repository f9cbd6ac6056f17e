"""The schema of ``study.json``: a study's data, base models, searches and runs, and the conclusions from them."""

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
    """The data of a study, as it was used.

    Attributes:
        labels: Class names in the order of their indices; empty for numbers.
        shots: Training rows per class, drawn separately for each seed; null if all seeds use the same rows.
        class_counts: Rows of each class by split, in the order of `labels`; a row counts for each of its labels.
        numbers: Distribution of the labels by split, if they are numbers; else empty.
        duplicates_removed: Rows removed by the source because their text had occurred before.
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
        drawn = "" if self.shots is None else f" ({self.shots:,} per class, drawn separately for each seed)"
        validation = f"{self.n_validation:,}" if self.n_validation else "no"
        return f"{self.n_train:,} training{drawn}, {validation} validation, {self.n_test:,} test rows"

    def long_texts(self, base: BaseRecord) -> str:
        """Return the share of long texts, in a base's tokens, and how they are read, as a clause."""
        if base.truncated_fraction == 0:
            return f"no text has more than {self.max_length:,} tokens"
        said = f"{base.truncated_fraction:.1%} of the texts have more than {self.max_length:,} tokens"
        said += f" and {self.reading.in_words(self.max_length)}"
        unread = base.unread_fraction
        return said if unread is None else f"{said}; {unread:.1%} of all tokens are never read"


class BaseRecord(Record):
    """A base model before training, and the length of the texts in its tokens.

    Attributes:
        name: Short name, used in the rows of a study of several bases.
        fingerprint: SHA-256 of weights and configuration.
        truncated_fraction: Share of all used texts with more than `DataRecord.max_length` tokens.
        unread_fraction: Share of the tokens of all used texts that were never read; null if not counted.
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
    """Result of one run: one method with one seed. Paths are relative to the study folder.

    Attributes:
        method: Name of the row, which includes the base if the study has several (`row_name`).
        train_rows: Number of training rows, in a learning curve; null if the run used all rows, or none.
        metric: Validation score by which the epoch, or the penalty, was chosen.
        thresholds: Minimum probability of each label; for one label per text, the divisor of each probability before
            the largest is chosen. Fitted on validation rows, so `validation` is slightly optimistic. Null without any.
        epochs: Number of epochs trained; `best_epoch` is the one whose state was restored (the first is 1).
        adapter_bytes: Size of the weights to ship.
        peak_memory_bytes: Highest resident memory of the process (device memory on a GPU) during the run.
        train_losses: Loss of each epoch, in nats, as in `validation_losses`; for numbers, the squared error of
            standardized labels.
        mfu: Model FLOPs utilization: achieved over measured peak operations per second, 0 to 1; null if not measured.
        predictions_sha256: SHA-256 of the file `predictions`; a run whose file differs is repeated.
        predicted_seconds: Cost estimate of `seconds.total` for all epochs; null without an estimate.
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
    """Test score and cost of one method over its seeds, with 95% confidence intervals (`feathertune.statistics`).

    Attributes:
        train_rows: Number of training rows, in a learning curve; null without one.
        metric: The primary metric, used for `score_mean` and all comparisons.
        delta_vs_full: Mean score minus that of `full` on the same base, paired by test row; null without `full`.
        p_vs_full_holm: Two-sided p-value of that difference, Holm-corrected over the methods.
        p_equivalent: p-value of two one-sided tests that the score is within the study's margin of `full`; not
            corrected.
        pareto: True if no other method scores higher without being worse in seconds, memory or parameters.
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
    """Gain of a method from the last doubling of its training rows, paired by test row, with its 95% interval."""

    method: str
    fewer: int
    rows: int
    gain: float
    low: float
    high: float


Sized = TypeVar("Sized", RunRecord, SummaryRow)


class PairRecord(Record):
    """Difference between two methods on the same test rows, with 95% confidence intervals.

    Attributes:
        delta: Mean score (the study's metric) of a minus that of b, over rows and seeds.
        rows_low: Lower end over rows alone, from a paired bootstrap of the trained models.
        p: Two-sided p-value of the difference, from an exact test for one seed each and right-or-wrong answers.
        p_holm: `p`, Holm-corrected over all pairs of the study.
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
    """One trial of a search, scored on validation rows; ``pruned`` if it was worse than the others at its last epoch.

    Attributes:
        score: The study's metric at the best epoch; null if the trial failed before the first epoch ended.
        log_loss: Log loss at the same epoch, in nats; for numbers, the mean squared error.
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
    """Search for one method's options.

    Attributes:
        train_rows: Number of training rows, in a learning curve; null for all rows.
        space: Values of each option, or the lowest and highest value of a rate.
        chosen: Number of the trial whose options the runs use; null if all failed, so that the runs use the defaults.
        trials: Trials in the order in which they ran; trial 0 is the method without a search.
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
    """Test rows of similar length in a base's tokens, and the share of those tokens that are unread.

    `base` is null in a study of one base.
    """

    base: str | None = None
    shortest: int
    longest: int
    n: int
    unread_fraction: float
    scores: list[ScoreOfBucket]


class Coded(Record):
    """A statement as a code and its parameters; scores and differences in parameters are fractions."""

    code: str
    parameters: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def of(cls, code: str, **parameters: Any) -> Self:  # noqa: ANN401 - any JSON value
        """Create a statement from keyword arguments."""
        return cls(code=code, parameters=parameters)


class Reason(Coded):
    """A reason for recommending a method, or another result of the comparison."""


class Caveat(Coded):
    """A reason not to rely on the recommendation."""


class Verdict(Record):
    """The recommended method, the reasons for it, and the caveats; `feathertune.study.verdict` has the rules.

    `feathertune.report.wording` turns the codes into sentences.
    """

    recommended: str | None
    reasons: list[Reason] = Field(default_factory=list)
    caveats: list[Caveat] = Field(default_factory=list)


class StudyRecord(Record):
    """A whole study; ``study.json``.

    Attributes:
        left_out: Methods included in ``all`` that the base model does not support: name to reason.
        off_budget: Methods more than a quarter above or below `parameter_budget`: name to number and reason.
        margin: Largest score difference that counts as equal, as a fraction or a correlation (``study.margin``).
        n_mislabelled: Test rows (or single labels of them) that look mislabelled; ``mislabelled.csv`` lists them.
        more_labels: Gains along a learning curve; all comparisons and the verdict use its largest size.
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
        """Return the buckets in a base's tokens."""
        return [bucket for bucket in self.by_length if bucket.base in (None, base.name)]

    def base_ids(self) -> str:
        """Return the ids of the bases, as a clause."""
        return ", ".join(base.id for base in self.bases)


def at_largest_size(rows: Sequence[Sized]) -> list[Sized]:
    """Return the runs or rows of the largest training size, and those without a size; all if there is no curve."""
    largest = max((row.train_rows for row in rows if row.train_rows is not None), default=None)
    return [row for row in rows if row.train_rows in (None, largest)]
