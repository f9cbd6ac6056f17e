"""Read the files next to ``study.json``: predictions, learning curves and test texts.

A study may be incomplete: missing or damaged files give ``None`` or an empty result, never an error.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from feathertune.records import METRICS_FILE, PREDICTIONS_FILE, TEST_FILE, RunRecord
from feathertune.report.format.units import BETWEEN
from feathertune.storage import sha256_of


@dataclass(frozen=True)
class Predictions:
    """Predictions of one run, in the order of the test rows.

    Attributes:
        row: Index into the test rows, ``(N,)``, rising and without repeats.
        label: True class or number, ``(N,)``; if a text may have several, 0 and 1, ``(N, C)``.
        predicted: Predictions of the same shape.
    """

    row: NDArray[np.int64]
    label: NDArray[Any]
    predicted: NDArray[Any]


@dataclass(frozen=True)
class Epoch:
    """Losses and primary score of one epoch; a number that was not finite is ``None``."""

    epoch: int
    train_loss: float | None
    validation_loss: float | None
    validation_score: float | None


def read_predictions(folder: Path, run: RunRecord, n_classes: int) -> Predictions | None:
    """Return a run's predictions, or ``None`` if missing, damaged or of another kind; numbers have no classes."""
    table = _read_table(_predictions(folder, run), ["row", "label", "predicted"])
    if table is None or table.num_rows == 0:
        return None
    row = _numbers(table.column("row"), np.int64)
    label, predicted = (_labels(table.column(name), n_classes) for name in ("label", "predicted"))
    if row is None or label is None or predicted is None or label.shape != predicted.shape:
        return None
    row, first = np.unique(row, return_index=True)
    return Predictions(row, label[first], predicted[first])


def read_answers(folder: Path, run: RunRecord, names: Sequence[str]) -> Predictions | None:
    """Return predictions with classes as ranks among all names, so that studies can be compared."""
    found = read_predictions(folder, run, len(names))
    if found is None or not names:
        return found
    order = np.argsort(np.array(names))
    if found.label.ndim == 2:
        return replace(found, label=found.label[:, order], predicted=found.predicted[:, order])
    rank = np.argsort(order)
    return replace(found, label=rank[found.label], predicted=rank[found.predicted])


def read_probabilities(folder: Path, run: RunRecord, n_classes: int, rows: NDArray[np.int64]) -> dict[int, list[float]]:
    """Return the class probabilities of the given test rows; empty if there are none."""
    path = _predictions(folder, run)
    found: dict[int, list[float]] = {}
    for row, values in _read_pairs(path, "probabilities", rows):
        if isinstance(values, list) and len(values) == n_classes:
            found[row] = [math.nan if value is None else float(value) for value in values]
    return found


def read_epochs(folder: Path, run: RunRecord) -> list[Epoch]:
    """Return the learning curve of a run; damaged lines are skipped."""
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


def read_test_columns(folder: Path, rows: NDArray[np.int64]) -> dict[str, dict[int, str]]:
    """Return the texts of some test rows by column and row; ``text_pair`` only for pairs; empty if unreadable."""
    found = {name: dict(_read_pairs(folder / TEST_FILE, name, rows)) for name in ("text", "text_pair")}
    return {name: texts for name, texts in found.items() if texts}


def read_test_texts(folder: Path, rows: NDArray[np.int64]) -> dict[int, str]:
    """Return the texts of the given test rows, both of a pair, if they can be read."""
    columns = read_test_columns(folder, rows)
    seconds = columns.get("text_pair", {})
    texts = columns.get("text", {})
    return {row: f"{text}{BETWEEN}{seconds[row]}" if row in seconds else str(text) for row, text in texts.items()}


def read_test_fingerprint(folder: Path, labels: Sequence[str]) -> str | None:
    """Return a SHA-256 of the test rows (texts and names of classes, or numbers), or ``None``."""
    table = _read_table(folder / TEST_FILE, ["text", "label"])
    seconds = _read_table(folder / TEST_FILE, ["text_pair"])
    found = None if table is None else _labels(table.column("label"), len(labels))
    if table is None or found is None or not len(found):
        return None
    columns = [table.column("text").to_pylist()]
    if seconds is not None:
        columns.append(seconds.column("text_pair").to_pylist())
    digest = hashlib.sha256()
    for *texts, label in zip(*columns, found.tolist(), strict=True):
        if not labels:
            name = label
        elif isinstance(label, list):
            name = [own for own, given in zip(labels, label, strict=True) if given]
        else:
            name = labels[label]
        digest.update(json.dumps([*texts, name]).encode())
    return digest.hexdigest()


def _labels(column: Any, n_classes: int) -> NDArray[Any] | None:  # noqa: ANN401 - pyarrow has no types
    """Return class indices, 0 and 1 ``(N, C)`` for lists of classes, or numbers for no classes; ``None`` if damaged."""
    if n_classes == 0:
        return _numbers(column, np.float64)
    if not pa.types.is_list(column.type):
        indices = _numbers(column, np.int64)
        return None if indices is None or ((indices < 0) | (indices >= n_classes)).any() else indices
    lists = column.to_pylist()
    members = np.zeros((len(lists), n_classes), np.int8)
    for place, own in enumerate(lists):
        if not isinstance(own, list) or any(not isinstance(i, int) or not 0 <= i < n_classes for i in own):
            return None
        members[place, own] = 1
    return members


def _path(folder: Path, recorded: str | None, run: RunRecord, name: str) -> Path:
    return folder / (recorded if recorded else f"runs/{run.id}/{name}")


def _predictions(folder: Path, run: RunRecord) -> Path | None:
    """Return a run's predictions file if it is the one that the run wrote."""
    path = _path(folder, run.predictions, run, PREDICTIONS_FILE)
    try:
        return path if run.predictions_sha256 in (None, sha256_of(path)) else None
    except OSError:
        return None


def _read_pairs(path: Path | None, column: str, rows: NDArray[np.int64]) -> list[tuple[int, Any]]:
    table = _read_table(path, ["row", column], [("row", "in", rows.tolist())]) if rows.size else None
    if table is None:
        return []
    return list(zip(table.column("row").to_pylist(), table.column(column).to_pylist(), strict=True))


def _read_table(path: Path | None, columns: list[str], filters: Any = None) -> Any:  # noqa: ANN401 - pyarrow has no types
    try:
        table = pq.read_table(path, columns=columns, filters=filters) if path is not None and path.is_file() else None
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None
    return table if table is not None and table.column_names == columns else None


def _numbers(column: Any, dtype: type[np.number[Any]]) -> NDArray[Any] | None:  # noqa: ANN401 - pyarrow has no types
    """Return finite numbers, int64 or float64; ``None`` if the column has another type or missing values."""
    is_kind = pa.types.is_integer if dtype is np.int64 else pa.types.is_floating
    if not is_kind(column.type) or column.null_count:
        return None
    values = np.asarray(column.to_numpy(), dtype=dtype)
    return values if np.isfinite(values).all() else None


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
