"""Test rows whose label may be wrong: every trained model says the same other class, and is sure of it.

Sure is at least 90 % (`SURE`). Of a class that is rarer than if all were alike, so much less may be left to it: of one
that 2 of 100 rows have, where there are two, 0.4 %. A model that knows nothing but that the class is rare is 98 % sure
of the other one on every row, and would accuse all that have it.

Where a text may have several labels, each label of each text is looked at by itself, whether it is given or missing.
All runs of all trained methods, two methods at least, have to decide the opposite; and each of them, with its
temperature, has to leave to what is given at most a tenth (1 - `SURE`) of the probability that it has without the text,
its share of the test rows. So each is at least 90 % sure of the opposite. Of a label that one text in fifty has, it has
to be 99.8 % sure that it does not belong there: a model that has learned nothing of the label is 98 % sure of that.

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

from feathertune.data.reading.texts import Text, columns_of
from feathertune.records import TRAINED_KINDS, MultiLabelMetrics, NumberMetrics, RunRecord
from feathertune.storage import write_atomic
from feathertune.study.running.run_files import CLIP_CHARACTERS, read_predictions, read_sets
from feathertune.tasks.calibration import apply_temperature, apply_temperature_to_sets

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


@dataclass(frozen=True)
class SuspectLabel:
    """One label of a test row that may have several.

    Attributes:
        given: Whether the row has it; all trained models say the opposite.
        confidence: The least that one of them is sure of that, 0 to 1.
    """

    row: int
    label: int
    given: bool
    confidence: float


def find_suspects(runs: Sequence[RunRecord], folder: Path) -> list[Suspect] | list[SuspectLabel]:
    """Look where all runs of all trained methods agree against the label.

    Args:
        runs: All runs of a study.
        folder: Of the study.

    Returns:
        In the order of the rows; none where fewer than two methods were trained, since one alone proves nothing.
    """
    trained = [run for run in runs if run.status == "complete" and run.kind in TRAINED_KINDS and run.predictions]
    # Of numbers, "the same other class" has no meaning.
    if len({run.method for run in trained}) < 2 or any(isinstance(run.test, NumberMetrics) for run in trained):
        return []
    if any(isinstance(run.test, MultiLabelMetrics) for run in trained):
        return _suspect_labels(trained, folder)
    confidence: np.ndarray | None = None
    for run in trained:
        labels, probabilities, predicted = read_predictions(folder / str(run.predictions))
        if run.calibration is not None:
            probabilities = apply_temperature(probabilities, run.calibration.temperature)
        every = np.arange(len(labels))
        if confidence is None:
            first, confidence, left = probabilities.argmax(axis=1), probabilities.max(axis=1), np.zeros(len(labels))
        confidence = np.minimum(confidence, probabilities[every, first])
        confidence[predicted != first] = 0.0  # by its threshold, it says another class than the most probable one
        left = np.maximum(left, probabilities[every, labels])
    assert confidence is not None
    sizes = np.bincount(labels)
    rarity = np.minimum(1.0, sizes * np.count_nonzero(sizes) / len(labels))[labels]
    rows = np.flatnonzero((confidence >= SURE) & (left <= (1 - SURE) * rarity) & (first != labels))
    return [Suspect(int(row), int(labels[row]), int(first[row]), float(confidence[row])) for row in rows]


def _suspect_labels(trained: Sequence[RunRecord], folder: Path) -> list[SuspectLabel]:
    """Single labels, in the order of the rows; the rule is the module's."""
    most: np.ndarray | None = None
    for run in trained:
        labels, probabilities, predicted = read_sets(folder / str(run.predictions))
        if run.calibration is not None:
            probabilities = apply_temperature_to_sets(probabilities, run.calibration.temperature)
        of_given = np.where(labels, probabilities, 1 - probabilities)
        of_given[predicted == labels] = 1.0  # by its threshold, it says what is given
        most = of_given if most is None else np.maximum(most, of_given)
    assert most is not None
    without_text = np.where(labels, labels.mean(axis=0), 1 - labels.mean(axis=0))
    return [
        SuspectLabel(int(row), int(label), bool(labels[row, label]), float(1 - most[row, label]))
        for row, label in np.argwhere(most <= (1 - SURE) * without_text)
    ]


def write_suspects(
    path: Path,
    suspects: Sequence[Suspect] | Sequence[SuspectLabel],
    texts: Sequence[Text],
    labels: Sequence[str],
    *,
    several: bool = False,
) -> None:
    """Write ``suspects.csv``: row, label, predicted, confidence (of the least sure model), text or texts (clipped).

    Where a text may have several labels: row, label, given and predicted (yes or no), confidence, text or texts.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    columns = columns_of([texts[s.row] for s in suspects], CLIP_CHARACTERS)
    writer.writerow(["row", "label", *(["given"] if several else []), "predicted", "confidence", *columns])
    for s, *text in zip(suspects, *columns.values(), strict=True):
        said = ["yes", "no"] if isinstance(s, SuspectLabel) and s.given else ["no", "yes"]
        if isinstance(s, Suspect):
            said = [labels[s.predicted]]
        writer.writerow([s.row, labels[s.label], *said, f"{s.confidence:.3f}", *text])
    write_atomic(path, buffer.getvalue())
