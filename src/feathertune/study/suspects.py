"""Test rows whose label may be wrong: every trained model says the same other class, and is sure of it.

Not a proof: what all models learn alike from the same training rows they can get wrong alike. The rows are for a person
to look at, and nothing is dropped from any score.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from feathertune.calibration import apply_temperature
from feathertune.data.texts import Text, columns_of
from feathertune.records import TRAINED_KINDS, MultiLabelMetrics, RunRecord
from feathertune.storage import write_atomic
from feathertune.study.files import CLIP_CHARACTERS, read_predictions

# All that a model's probability of the wrong class must reach, at the temperature that makes it believable: a small
# training set makes models that are sure of whatever they say.
SURE = 0.9


@dataclass(frozen=True)
class Suspect:
    """A test row, what all trained models say of it, and the least that one of them is sure of that, 0 to 1."""

    row: int
    label: int
    predicted: int
    confidence: float


def find_suspects(runs: Sequence[RunRecord], folder: Path) -> list[Suspect]:
    """Look where all runs of all trained methods agree against the label.

    Args:
        runs: All runs of a study.
        folder: Of the study.

    Returns:
        In the order of the rows; none where fewer than two methods were trained, since one alone proves nothing.
    """
    trained = [run for run in runs if run.status == "complete" and run.kind in TRAINED_KINDS and run.predictions]
    # Of several labels a text, "the same other class" has no meaning.
    if len({run.method for run in trained}) < 2 or any(isinstance(run.test, MultiLabelMetrics) for run in trained):
        return []
    confidence: np.ndarray | None = None
    for run in trained:
        labels, probabilities, predicted = read_predictions(folder / str(run.predictions))
        if run.calibration is not None:
            probabilities = apply_temperature(probabilities, run.calibration.temperature)
        if confidence is None:
            first, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
        confidence = np.minimum(confidence, probabilities[np.arange(len(first)), first])
        confidence[predicted != first] = 0.0  # by its threshold, it says another class than the most probable one
    assert confidence is not None
    rows = np.flatnonzero((confidence >= SURE) & (first != labels))
    return [Suspect(int(row), int(labels[row]), int(first[row]), float(confidence[row])) for row in rows]


def write_suspects(path: Path, suspects: Sequence[Suspect], texts: Sequence[Text], labels: Sequence[str]) -> None:
    """Write ``suspects.csv``: row, label, predicted, confidence (of the least sure model), text or texts (clipped)."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    columns = columns_of([texts[s.row] for s in suspects], CLIP_CHARACTERS)
    writer.writerow(["row", "label", "predicted", "confidence", *columns])
    for s, *text in zip(suspects, *columns.values(), strict=True):
        writer.writerow([s.row, labels[s.label], labels[s.predicted], f"{s.confidence:.3f}", *text])
    write_atomic(path, buffer.getvalue())
