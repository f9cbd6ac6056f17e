"""The parquet files of a study: predictions of a run, and the test rows. Written whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feathertune.data.reading.texts import Text, columns_of
from feathertune.storage import write_atomic

# Texts are kept for the report, which shows a few of them; whole documents would be another copy of the data.
CLIP_CHARACTERS = 2_000


def write_test_rows(path: Path, texts: Sequence[Text], labels: np.ndarray) -> None:
    """Write ``test.parquet``: row, text (clipped; of pairs text_pair too), label."""
    columns = {
        "row": pa.array(np.arange(len(texts), dtype=np.int64)),
        **{name: pa.array(column, pa.string()) for name, column in columns_of(texts, CLIP_CHARACTERS).items()},
        "label": _column(labels),
    }
    _write_table(path, pa.table(columns))


def write_predictions(path: Path, labels: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray) -> None:
    """Write ``predictions.parquet``: row, label, predicted, probabilities; of numbers no probabilities.

    Args:
        path: Where.
        labels: ``(N,)``, or ``(N, C)`` where a text may have several: then lists of their indices are written.
        predicted: Likewise.
        probabilities: ``(N, C)``.
    """
    n, n_classes = probabilities.shape
    columns = {
        "row": pa.array(np.arange(n, dtype=np.int64)),
        "label": _column(labels),
        "predicted": _column(predicted),
    }
    if labels.dtype.kind != "f":
        columns["probabilities"] = pa.FixedSizeListArray.from_arrays(
            pa.array(probabilities.astype(np.float32).reshape(-1)), n_classes
        ).cast(pa.list_(pa.float32()))
    _write_table(path, pa.table(columns))


def _column(labels: np.ndarray) -> pa.Array:
    """Class indices, lists of them, or numbers."""
    if labels.dtype.kind == "f":
        return pa.array(labels.astype(np.float64))
    if labels.ndim == 1:
        return pa.array(labels.astype(np.int32))
    return pa.array([np.flatnonzero(row).tolist() for row in labels], pa.list_(pa.int32()))


def _write_table(path: Path, table: pa.Table) -> None:
    """Write a parquet file whole or not at all."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_atomic(path, buffer.getvalue())


@dataclass(frozen=True)
class SavedPredictions:
    """Predictions of one run, as ``predictions.parquet`` holds them.

    Attributes:
        labels: ``(N,)``; where a text can have several labels ``(N, C)`` of 0 and 1.
        predicted: Of the same shape.
        probabilities: ``(N, C)``; empty where labels are numbers.
    """

    labels: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray


def read_predictions(path: Path) -> SavedPredictions:
    """Read ``predictions.parquet``."""
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
