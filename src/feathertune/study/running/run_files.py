"""Read and write a study's parquet files, predictions and test rows; each is written atomically."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from feathertune.data.reading.texts import Text, columns_of
from feathertune.records import Record
from feathertune.storage import write_atomic

# Texts are kept for the report, which shows a few of them; full documents would duplicate the data.
CLIP_CHARACTERS = 2_000


R = TypeVar("R", bound=Record)


def read_record(path: Path, kind: type[R]) -> R | None:
    """Return a record from its JSON file, or None if it is missing or damaged."""
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None


def write_test_rows(path: Path, texts: Sequence[Text], labels: np.ndarray) -> None:
    """Write ``test.parquet``: row, text (clipped; plus text_pair for pairs), label."""
    columns = {
        "row": pa.array(np.arange(len(texts), dtype=np.int64)),
        **{name: pa.array(column, pa.string()) for name, column in columns_of(texts, CLIP_CHARACTERS).items()},
        "label": _column(labels),
    }
    _write_table(path, pa.table(columns))


def write_predictions(path: Path, labels: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray) -> None:
    """Write ``predictions.parquet``: row, label, predicted, and ``(N, C)`` probabilities unless labels are numbers.

    Multi-label ``(N, C)`` arrays become lists of class indices.
    """
    n, n_classes = probabilities.shape
    columns = {"row": pa.array(np.arange(n, dtype=np.int64)), "label": _column(labels), "predicted": _column(predicted)}
    if labels.dtype.kind != "f":
        columns["probabilities"] = pa.FixedSizeListArray.from_arrays(
            pa.array(probabilities.astype(np.float32).reshape(-1)), n_classes
        ).cast(pa.list_(pa.float32()))
    _write_table(path, pa.table(columns))


def _column(labels: np.ndarray) -> pa.Array:
    if labels.dtype.kind == "f":
        return pa.array(labels.astype(np.float64))
    if labels.ndim == 1:
        return pa.array(labels.astype(np.int32))
    return pa.array([np.flatnonzero(row).tolist() for row in labels], pa.list_(pa.int32()))


def _write_table(path: Path, table: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_atomic(path, buffer.getvalue())


@dataclass(frozen=True)
class SavedPredictions:
    """Predictions of one run: labels and predictions ``(N,)`` or 0/1 ``(N, C)``, probabilities ``(N, C)``.

    Numeric labels have no probabilities: ``(N, 0)``.
    """

    labels: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray


def read_predictions(path: Path) -> SavedPredictions:
    """Return the predictions in a ``predictions.parquet`` file."""
    table = pq.read_table(path)
    n = len(table)
    probabilities = np.zeros((n, 0))
    if "probabilities" in table.column_names:
        probabilities = table["probabilities"].combine_chunks().flatten().to_numpy().reshape(n, -1)
    if not pa.types.is_list(table.schema.field("label").type):
        return SavedPredictions(table["label"].to_numpy(), table["predicted"].to_numpy(), probabilities)
    labels, predicted = np.zeros(probabilities.shape, np.int8), np.zeros(probabilities.shape, np.int8)
    for name, members in (("label", labels), ("predicted", predicted)):
        for row, own in enumerate(table[name].to_pylist()):
            members[row, own] = 1
    return SavedPredictions(labels, predicted, probabilities)
