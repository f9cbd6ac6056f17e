"""Find and list a study's likely mislabelled test rows; see `feathertune.tasks.mislabelled` for the rules."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from feathertune.data.reading.texts import Text, columns_of
from feathertune.records import TRAINED_KINDS, RunRecord
from feathertune.storage import write_atomic
from feathertune.study.running.run_files import CLIP_CHARACTERS, read_predictions
from feathertune.tasks import Task
from feathertune.tasks.mislabelled import Mislabelled, RunOpinion

# A single method is not enough evidence.
_LEAST_METHODS = 2


def find_mislabelled(task: Task, runs: Sequence[RunRecord], folder: Path) -> list[Mislabelled]:
    """Return the labels that all runs of all trained methods contradict, in row order."""
    trained = [run for run in runs if run.status == "complete" and run.kind in TRAINED_KINDS and run.predictions]
    if task.find_mislabelled is None or task.temper is None or len({run.method for run in trained}) < _LEAST_METHODS:
        return []
    opinions = []
    for run in trained:
        saved = read_predictions(folder / str(run.predictions))
        temperature = 1.0 if run.calibration is None else run.calibration.temperature
        probabilities = saved.probabilities if temperature == 1.0 else task.temper(saved.probabilities, temperature)
        opinions.append(RunOpinion(probabilities, saved.predicted))
    return task.find_mislabelled(saved.labels, opinions)


def write_mislabelled(path: Path, found: Sequence[Mislabelled], texts: Sequence[Text], labels: Sequence[str]) -> None:
    """Write ``mislabelled.csv``; `confidence` is the lowest confidence over the models."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    columns = columns_of([texts[one.row] for one in found], CLIP_CHARACTERS)
    writer.writerow(["row", "label", "given", "predicted", "confidence", *columns])
    yes_no = ("no", "yes")
    for one, *text in zip(found, *columns.values(), strict=True):
        predicted = yes_no[not one.given] if one.predicted is None else labels[one.predicted]
        writer.writerow([one.row, labels[one.label], yes_no[one.given], predicted, f"{one.confidence:.3f}", *text])
    write_atomic(path, buffer.getvalue())
