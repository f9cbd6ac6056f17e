"""What a study leaves behind: the schema of ``study.json`` and the files beside it.

The command line, the report and the tests read only this; it loads without torch. Layout of a study folder::

    study.json                          StudyRecord
    plan.json                           what was planned, before the first run started
    price.json                          `feathertune.prices`, where it was asked for before the first run started
    config.yaml                         every setting, spelled out; runs again as it is
    test.parquet                        row, text, label: the test rows, in order (texts clipped)
    suspects.csv                        test rows whose label may be wrong
    report.html
    runs/<id>/run.json                  RunRecord, written when the run ended
    runs/<id>/predictions.parquet       row, label, predicted, probabilities
    runs/<id>/metrics.jsonl             one object a step, and one an epoch
    runs/<id>/bundle/                   what `feathertune predict` loads

Not for settings: those are in `feathertune.config`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from feathertune.errors import DataError
from feathertune.storage import write_atomic

SCHEMA_VERSION = 1
STUDY_FILE = "study.json"
CONFIG_FILE = "config.yaml"
TEST_FILE = "test.parquet"
SUSPECTS_FILE = "suspects.csv"
PREDICTIONS_FILE = "predictions.parquet"
METRICS_FILE = "metrics.jsonl"
Kind = Literal["baseline", "probe", "peft", "full"]
TRAINED_KINDS: tuple[Kind, ...] = ("peft", "full")  # those that go through the training loop
Status = Literal["complete", "partial", "failed"]


class Record(BaseModel):
    """A piece of the record: unknown keys are refused, so that a typo cannot hide."""

    # Before 2.10 pydantic kept names that begin with "model_" for itself, and warned of `model_type`.
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Metrics(Record):
    """Scores of one set of predictions; `n` is the number of rows."""

    accuracy: float
    macro_f1: float
    mcc: float
    log_loss: float
    ece: float
    n: int


class Calibration(Record):
    """How far the probabilities of the test rows can be believed, and what one temperature mends.

    Attributes:
        temperature: Found on validation rows; above 1 the method was too sure.
        ece: Calibration error of the test rows with that temperature (`Metrics.ece` is the one without it).
        log_loss: Likewise.
        bins: Of test rows by their confidence, ten of equal width: rows, mean confidence, share of right answers.
            Bins without rows are left out.
    """

    temperature: float
    ece: float
    log_loss: float
    bins: list[tuple[int, float, float]]


class Seconds(Record):
    """Wall-clock seconds of one run, from the texts to the predictions of the test rows.

    Attributes:
        total: Of all parts but `ship`, and of loading and preparing the encoder.
        cache: Frozen features and hidden states, also where an earlier run made them.
        head: The head alone, before all else.
        train: Steps, and the scores on validation after each epoch.
        evaluate: The test rows.
        ship: Writing the bundle and proving it by a reload. Not in `total`: whether weights are kept is no property
            of a method.
    """

    total: float
    tokenize: float = 0.0
    cache: float = 0.0
    head: float = 0.0
    train: float = 0.0
    evaluate: float = 0.0
    ship: float = 0.0


class DataRecord(Record):
    """The data as it was used.

    Attributes:
        labels: In the order of the class indices.
        class_counts: Rows of each class, by split, in the order of `labels`.
        truncated_fraction: Share of all used texts with more than `max_length` tokens.
        duplicates_removed: Rows that the source dropped because their text stood there already.
        overlap_removed: Training and validation rows removed because their text is in a later split.
        notes: What the source did to its texts, in plain words.
    """

    source: str
    test_source: str | None = None
    fingerprint: str
    task: Literal["single_label", "multi_label"] = "single_label"
    labels: list[str]
    n_train: int
    n_validation: int
    n_test: int
    class_counts: dict[str, list[int]]
    max_length: int
    truncated_fraction: float
    duplicates_removed: int
    overlap_removed: int
    notes: list[str] = []


class BaseRecord(Record):
    """The pretrained encoder, before anything was trained."""

    id: str
    revision: str | None = None
    fingerprint: str
    model_type: str
    n_parameters: int
    n_layers: int
    hidden_size: int
    new_parameters: list[str] = []


class RunRecord(Record):
    """One method with one seed.

    Attributes:
        train_rows: Of a learning curve; null where all rows were trained on, or none.
        epochs: Epochs that were trained; `best_epoch` is the one whose state was restored (1 is the first).
        adapter_bytes: Size of the weights that would be shipped.
        peak_memory_bytes: Highest resident memory of the process (device memory on a GPU) during the run.
        train_losses: Mean training loss of each epoch; `validation_losses` after it, in nats.
        mfu: Operations done over this machine's measured peak, 0 to 1; null where it was not measured.
        predicted_seconds: What a price (`feathertune.prices`) that was made before the run said of `seconds.total`,
            for all epochs; null where none was made. `predicted_memory_bytes` likewise, of `peak_memory_bytes`.
        predictions: Path of the test predictions, relative to the study folder. `bundle` likewise.
    """

    id: str
    method: str
    kind: Kind
    seed: int
    train_rows: int | None = None
    status: Literal["complete", "failed"]
    error: str | None = None
    test: Metrics | None = None
    validation: Metrics | None = None
    calibration: Calibration | None = None
    trainable_parameters: int = 0
    total_parameters: int = 0
    trainable_percent: float = 0.0
    adapter_bytes: int = 0
    seconds: Seconds
    epochs: int = 0
    best_epoch: int = 0
    steps: int = 0
    train_losses: list[float] = []
    validation_losses: list[float] = []
    tokens_per_second: float | None = None
    examples_per_second: float | None = None
    peak_memory_bytes: int | None = None
    mfu: float | None = None
    predicted_seconds: float | None = None
    predicted_memory_bytes: int | None = None
    hyperparameters: dict[str, Any] = {}
    notes: list[str] = []
    metrics: str | None = None
    predictions: str | None = None
    bundle: str | None = None


class SummaryRow(Record):
    """One method over its seeds, on the test rows. Intervals are 95 %; `study.stats` says how they are made.

    Attributes:
        train_rows: Of a learning curve, where each method has a row for each number of training rows.
        delta_vs_full: Mean accuracy minus that of `full`, paired by test row; null where there is no `full`.
        p_vs_full_holm: Two-sided p of that difference, Holm-corrected over the methods.
        p_equivalent: Of two one-sided tests that it is within the study's margin of `full`; not corrected, since the
            verdict says it of one row.
        pareto: No other method is better in accuracy without being worse in seconds, memory or parameters.
        predicted_seconds: What `seconds_mean` was said to be; null where no price was made before the runs.
            `predicted_memory_bytes` likewise.
    """

    method: str
    kind: Kind
    train_rows: int | None = None
    n_seeds: int
    accuracy_mean: float
    accuracy_sd: float | None
    accuracy_low: float
    accuracy_high: float
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
    """What the last doubling of the training rows bought a method.

    Attributes:
        rows: All rows of the curve; `fewer` is the largest number in it of at most half as many, or else the next.
        gain: Accuracy, a doubling: the difference between the two, by the number of doublings between them, paired by
            test row. `low` and `high` are its 95 % interval.
    """

    method: str
    fewer: int
    rows: int
    gain: float
    low: float
    high: float


Sized = TypeVar("Sized", RunRecord, SummaryRow)


class PairRecord(Record):
    """Two methods on the same test rows; `study.pairs` says how their seeds enter.

    Attributes:
        delta: Mean accuracy of a minus that of b; `low` and `high` are its 95 % interval over rows and seeds.
        rows_low: Of the 95 % interval over rows alone, by paired bootstrap of the models that were trained.
        p: Two-sided p of the difference; with one seed each, of the exact McNemar test.
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


class Verdict(Record):
    """What to do, in plain words, by the rules of `study.verdict`."""

    recommended: str | None
    text: str
    caveats: list[str] = []


class StudyRecord(Record):
    """A whole study; ``study.json``.

    Attributes:
        descriptions: What each method does, in a sentence.
        left_out: Methods that were asked for as one of all and cannot serve the encoder: name to reason.
        parameter_budget: Parameters of the encoder that each method was sized to train; null where none was given.
        off_budget: Methods that train over a quarter more or less than that: name to how many, and why.
        margin: The difference in accuracy that still counts as none, as a fraction (``study.margin``).
        pairs: Every two methods of the summary, each once.
        n_suspects: Test rows whose label may be wrong; ``suspects.csv`` lists them.
        more_labels: Of a learning curve. What compares methods, verdict included, is of the most rows in it.
    """

    schema_version: int = SCHEMA_VERSION
    created: str
    status: Status
    data: DataRecord
    base: BaseRecord
    hardware: dict[str, Any]
    versions: dict[str, str]
    command: list[str]
    planned_runs: list[str]
    runs: list[RunRecord]
    summary: list[SummaryRow]
    verdict: Verdict
    descriptions: dict[str, str] = {}
    left_out: dict[str, str] = {}
    parameter_budget: int | None = None
    off_budget: dict[str, str] = {}
    margin: float | None = None
    pairs: list[PairRecord] = []
    n_suspects: int = 0
    more_labels: list[MoreLabels] = []


def at_largest_size(rows: Sequence[Sized]) -> list[Sized]:
    """Of a learning curve the runs or summary rows with the most training rows, and those that know no number of them.

    Without a curve: all.
    """
    largest = max((row.train_rows for row in rows if row.train_rows is not None), default=None)
    return [row for row in rows if row.train_rows in (None, largest)]


# Fields that may differ between two runs of the same command on one machine: times, dates, memory and what follows
# from them. Everything else must be equal bit for bit on CPU.
VOLATILE_FIELDS = frozenset(
    {
        "created",
        "seconds",
        "seconds_mean",
        "tokens_per_second",
        "examples_per_second",
        "peak_memory_bytes",
        "memory_mean_bytes",
        "mfu",
        "speedup_vs_full",
        "memory_vs_full",
        "predicted_seconds",
        "predicted_memory_bytes",
        "pareto",
        "measured",
        "command",
    }
)


def comparable(record: Any) -> Any:  # noqa: ANN401 - any JSON value
    """A JSON value without its volatile fields, at every depth."""
    if isinstance(record, dict):
        return {k: comparable(v) for k, v in record.items() if k not in VOLATILE_FIELDS}
    if isinstance(record, list):
        return [comparable(v) for v in record]
    return record


def differences(there: Any, now: Any) -> list[tuple[str, Any, Any]]:  # noqa: ANN401 - any JSON value
    """All places in which two JSON values differ: dotted key, value there, value now; ``None`` where there is none."""
    old, new = flat(there), flat(now)
    return [(key, old.get(key), new.get(key)) for key in sorted(old | new) if old.get(key) != new.get(key)]


def first_differences(there: Any, now: Any) -> str:  # noqa: ANN401 - any JSON value
    """Name the first settings in which two JSON values differ, for a message; empty where they are equal."""
    return "; ".join(f"{key}: {old} there, {new} now" for key, old, new in differences(there, now)[:3])


def flat(value: object, prefix: str = "") -> dict[str, object]:
    """The leaves of nested mappings by their dotted names."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for key, item in value.items() for k, v in flat(item, f"{prefix}.{key}".lstrip(".")).items()}


def save_study(study: StudyRecord, folder: Path) -> None:
    """Write ``study.json``, whole or not at all."""
    write_atomic(folder / STUDY_FILE, study.model_dump_json(indent=1) + "\n")


def load_study(folder: Path) -> StudyRecord:
    """Read the record of a study.

    Args:
        folder: The study folder.

    Raises:
        DataError: If there is no ``study.json`` there or it is not one.
    """
    path = folder / STUDY_FILE
    try:
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{folder} is not a study folder: {path.name} cannot be read ({error.strerror}). "
            "Expected the --out of `feathertune compare`."
        ) from error
    try:
        return StudyRecord.model_validate_json(content)
    except (ValidationError, UnicodeDecodeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DataError(f"{path} is not a study record of schema {SCHEMA_VERSION}: {where}: {first['msg']}.") from error
