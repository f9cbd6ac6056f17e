"""Reads what lies beside ``study.json``: predictions, learning curves and the test texts.

A study may be cut short, and a run may have failed: whatever is missing or damaged is answered with ``None``
(or nothing), never with an error, and the report says what it could not show. Not for code that needs the
files to be whole.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from feathertune.records import METRICS_FILE, PREDICTIONS_FILE, TEST_FILE, RunRecord
from feathertune.report.format.units import BETWEEN


@dataclass(frozen=True)
class Predictions:
    """The predictions of one run, in the order of the test rows.

    Attributes:
        row: Index into the test rows, ``(N,)``, rising and without repeats.
        label: True class, ``(N,)``; where a text may have several, the place of its set in `sets`.
        predicted: ``(N,)``, likewise.
        sets: The different sets of class indices; ``None`` where a text has one class.
    """

    row: NDArray[np.int64]
    label: NDArray[np.int64]
    predicted: NDArray[np.int64]
    sets: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True)
class NamedAnswers:
    """Labels and predictions of one run by name, so that two studies can be compared.

    Attributes:
        row: As of `Predictions`.
        label: Class names as ranks among all names ``(N,)``, sets of them ``(N, C)``, or numbers ``(N,)``.
        predicted: Of the same shape.
    """

    row: NDArray[np.int64]
    label: NDArray[Any]
    predicted: NDArray[Any]


@dataclass(frozen=True)
class Epoch:
    """What was measured after one epoch, and the leading score; a number that was not finite is ``None``."""

    epoch: int
    train_loss: float | None
    validation_loss: float | None
    validation_score: float | None


def read_predictions(folder: Path, run: RunRecord, n_classes: int) -> Predictions | None:
    """The predictions of a run, or ``None`` where they are missing, damaged or of another kind."""
    table = _read_table(_path(folder, run.predictions, run, PREDICTIONS_FILE), ["row", "label", "predicted"])
    if table is None or table.num_rows == 0:
        return None
    if pa.types.is_list(table.schema.field("label").type):
        return _predicted_sets(table, n_classes)
    columns = [_integers(table.column(name)) for name in ("row", "label", "predicted")]
    if any(column is None for column in columns):
        return None
    row, label, predicted = (column for column in columns if column is not None)
    for classes in (label, predicted):
        if classes.min() < 0 or classes.max() >= n_classes:
            return None
    row, first = np.unique(row, return_index=True)
    return Predictions(row, label[first], predicted[first])


def read_answers(folder: Path, run: RunRecord, names: Sequence[str]) -> NamedAnswers | None:
    """Return a run's labels and predictions by name, or None where they are missing or damaged.

    Args:
        folder: Of the study.
        run: A complete run.
        names: Of the classes; none where labels are numbers.
    """
    if not names:
        return _read_numbers(folder, run)
    found = read_predictions(folder, run, len(names))
    if found is None:
        return None
    rank = np.argsort(np.argsort(np.array(names)))
    if found.sets is None:
        return NamedAnswers(found.row, rank[found.label], rank[found.predicted])
    members = np.zeros((len(found.sets), len(names)), np.int8)
    for place, indices in enumerate(found.sets):
        members[place, rank[list(indices)]] = 1
    return NamedAnswers(found.row, members[found.label], members[found.predicted])


def _read_numbers(folder: Path, run: RunRecord) -> NamedAnswers | None:
    table = _read_table(_path(folder, run.predictions, run, PREDICTIONS_FILE), ["row", "label", "predicted"])
    if table is None or table.num_rows == 0:
        return None
    row = _integers(table.column("row"))
    columns = [_floats(table.column(name)) for name in ("label", "predicted")]
    if row is None or any(column is None for column in columns):
        return None
    label, predicted = (column for column in columns if column is not None)
    row, first = np.unique(row, return_index=True)
    return NamedAnswers(row, label[first], predicted[first])


def _predicted_sets(table: Any, n_classes: int) -> Predictions | None:  # noqa: ANN401 - pyarrow has no types
    row = _integers(table.column("row"))
    places: dict[tuple[int, ...], int] = {}
    columns = []
    for name in ("label", "predicted"):
        values = table.column(name).to_pylist()
        if any(
            not isinstance(one, list) or any(not isinstance(i, int) or not 0 <= i < n_classes for i in one)
            for one in values
        ):
            return None
        columns.append(np.array([places.setdefault(tuple(one), len(places)) for one in values], dtype=np.int64))
    if row is None:
        return None
    row, first = np.unique(row, return_index=True)
    label, predicted = (column[first] for column in columns)
    return Predictions(row, label, predicted, tuple(places))


def read_probabilities(folder: Path, run: RunRecord, n_classes: int, rows: NDArray[np.int64]) -> dict[int, list[float]]:
    """The class probabilities of some test rows; empty where there are none."""
    path = _path(folder, run.predictions, run, PREDICTIONS_FILE)
    found: dict[int, list[float]] = {}
    for row, values in _read_pairs(path, "probabilities", rows):
        if isinstance(values, list) and len(values) == n_classes:
            found[row] = [math.nan if value is None else float(value) for value in values]
    return found


def read_epochs(folder: Path, run: RunRecord) -> list[Epoch]:
    """The learning curve of a run; lines that are cut off or of another kind are passed over."""
    try:
        with _path(folder, run.metrics, run, METRICS_FILE).open(encoding="utf-8", errors="replace") as file:
            lines = [line for line in file if '"epoch"' in line]
    except OSError:
        return []
    epochs: dict[int, Epoch] = {}
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if not isinstance(entry, dict) or entry.get("event") != "epoch" or not isinstance(entry.get("epoch"), int):
            continue
        epochs[entry["epoch"]] = Epoch(
            entry["epoch"],
            _finite(entry.get("train_loss")),
            _finite(entry.get("validation_loss")),
            _finite(entry.get("validation_score")),
        )
    return [epochs[number] for number in sorted(epochs)]


def read_test_texts(folder: Path, rows: NDArray[np.int64]) -> dict[int, str]:
    """The texts of some test rows, both of a pair; those that cannot be read are missing."""
    seconds = dict(_read_pairs(folder / TEST_FILE, "text_pair", rows))  # where the rows are pairs
    texts = _read_pairs(folder / TEST_FILE, "text", rows)
    return {row: f"{text}{BETWEEN}{seconds[row]}" if row in seconds else str(text) for row, text in texts}


def read_test_fingerprint(folder: Path, labels: Sequence[str]) -> str | None:
    """SHA-256 of the test rows in their order, or ``None`` where they cannot be read.

    It is of the texts, as far as they are kept, and the names of their classes, or their numbers: two studies with the
    same one were tested on the same rows, whatever version wrote the file.
    """
    table = _read_table(folder / TEST_FILE, ["text", "label"])
    seconds = _read_table(folder / TEST_FILE, ["text_pair"])
    names = None if table is None else _names(table.column("label"), labels)
    if table is None or not names:
        return None
    columns = [table.column("text").to_pylist()]
    if seconds is not None:
        columns.append(seconds.column("text_pair").to_pylist())
    digest = hashlib.sha256()
    for *texts, name in zip(*columns, names, strict=True):
        digest.update(json.dumps([*texts, name]).encode())
    return digest.hexdigest()


def _names(column: Any, labels: Sequence[str]) -> list[Any] | None:  # noqa: ANN401 - pyarrow has no types
    """The name of each row's class, or those of its set, or its number; ``None`` where they are something else."""
    if (numbers := _floats(column)) is not None:
        return list(numbers.tolist())
    values = column.to_pylist()
    flat = [i for value in values for i in (value if isinstance(value, list) else [value])]
    if any(not isinstance(i, int) or not 0 <= i < len(labels) for i in flat):
        return None
    return [[labels[i] for i in value] if isinstance(value, list) else labels[value] for value in values]


def _path(folder: Path, recorded: str | None, run: RunRecord, name: str) -> Path:
    return folder / (recorded if recorded else f"runs/{run.id}/{name}")


def _read_pairs(path: Path, column: str, rows: NDArray[np.int64]) -> list[tuple[int, Any]]:
    """Row and value of the wanted rows."""
    table = _read_table(path, ["row", column], [("row", "in", rows.tolist())]) if rows.size else None
    if table is None:
        return []
    return list(zip(table.column("row").to_pylist(), table.column(column).to_pylist(), strict=True))


def _read_table(path: Path, columns: list[str], filters: Any = None) -> Any:  # noqa: ANN401 - pyarrow has no types
    """A table with just these columns, or ``None``."""
    try:
        table = pq.read_table(path, columns=columns, filters=filters) if path.is_file() else None
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None
    return table if table is not None and table.column_names == columns else None


def _integers(column: Any) -> NDArray[np.int64] | None:  # noqa: ANN401 - pyarrow has no types
    if not pa.types.is_integer(column.type) or column.null_count:
        return None
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _floats(column: Any) -> NDArray[np.float64] | None:  # noqa: ANN401 - pyarrow has no types
    if not pa.types.is_floating(column.type) or column.null_count:
        return None
    values = np.asarray(column.to_numpy(), dtype=np.float64)
    return values if np.isfinite(values).all() else None


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
