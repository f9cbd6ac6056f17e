"""The parquet files of a study: predictions of a run, and the test rows. Written whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feathertune.storage import write_atomic

# Texts are kept for the report, which shows a few of them; whole documents would be another copy of the data.
CLIP_CHARACTERS = 2_000


def write_test_rows(path: Path, texts: Sequence[str], labels: np.ndarray) -> None:
    """Write ``test.parquet``: row, text (clipped), label."""
    columns = {
        "row": pa.array(np.arange(len(texts), dtype=np.int64)),
        "text": pa.array([text[:CLIP_CHARACTERS] for text in texts], pa.string()),
        "label": pa.array(labels.astype(np.int32)),
    }
    _write_table(path, pa.table(columns))


def write_predictions(path: Path, labels: np.ndarray, probabilities: np.ndarray) -> None:
    """Write ``predictions.parquet``: row, label, predicted, probabilities."""
    n, n_classes = probabilities.shape
    table = pa.table(
        {
            "row": pa.array(np.arange(n, dtype=np.int64)),
            "label": pa.array(labels.astype(np.int32)),
            "predicted": pa.array(probabilities.argmax(axis=1).astype(np.int32)),
            "probabilities": pa.FixedSizeListArray.from_arrays(
                pa.array(probabilities.astype(np.float32).reshape(-1)), n_classes
            ).cast(pa.list_(pa.float32())),
        }
    )
    _write_table(path, table)


def _write_table(path: Path, table: pa.Table) -> None:
    """Write a parquet file whole or not at all."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_atomic(path, buffer.getvalue())


def read_correct(path: Path) -> np.ndarray:
    """Which test rows were predicted right, ``(N,)`` bool, from ``predictions.parquet``."""
    table = pq.read_table(path, columns=["label", "predicted"])
    return np.asarray(table["label"].to_numpy() == table["predicted"].to_numpy())


def read_predictions(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels, ``(N,)``, and probabilities, ``(N, C)``, from ``predictions.parquet``."""
    table = pq.read_table(path, columns=["label", "probabilities"])
    labels = table["label"].to_numpy()
    return labels, table["probabilities"].combine_chunks().flatten().to_numpy().reshape(len(labels), -1)
