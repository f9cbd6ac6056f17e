"""Which test rows a trained method put right, and which it broke, against the untrained or probed encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from feathertune.records import TRAINED_KINDS, RunRecord, StudyRecord
from feathertune.report.side_files import Predictions, read_probabilities, read_test_texts


@dataclass(frozen=True)
class Example:
    """One test row; a probability is that of the predicted class. What was not found is ``None``."""

    row: int
    text: str | None
    true: int
    before: int
    before_probability: float | None
    after: int
    after_probability: float | None


@dataclass(frozen=True)
class Changes:
    """The rows of two runs side by side."""

    before: RunRecord
    after: RunRecord
    n_fixed: int
    n_broken: int
    n_both_right: int
    n_both_wrong: int
    fixed: tuple[Example, ...]
    broken: tuple[Example, ...]


def find_changes(
    study: StudyRecord, folder: Path, predictions: Mapping[str, Predictions], *, at_most: int
) -> Changes | None:
    """Compare `probe`, else `foundation`, with the recommended trained method, else the best one.

    Args:
        study: The record.
        folder: Its folder.
        predictions: By run id.
        at_most: Examples each way; those where the probability of the true class moved furthest come first.

    Returns:
        ``None`` where there are no two such runs with predictions of the same rows.
    """
    before = _first(study, predictions, ["probe", "foundation"])
    trained = [row for row in study.summary if row.kind in TRAINED_KINDS]
    trained.sort(key=lambda row: (row.method != study.verdict.recommended, -row.score_mean))
    after = _first(study, predictions, [row.method for row in trained])
    if before is None or after is None:
        return None
    old, new = predictions[before.id], predictions[after.id]
    rows, at_old, at_new = np.intersect1d(old.row, new.row, assume_unique=True, return_indices=True)
    label = old.label[at_old]
    if not rows.size or not np.array_equal(label, new.label[at_new]):
        return None
    was_right, is_right = old.predicted[at_old] == label, new.predicted[at_new] == label
    changed = was_right != is_right
    n_classes = len(study.data.labels)
    old_p = read_probabilities(folder, before, n_classes, rows[changed])
    new_p = read_probabilities(folder, after, n_classes, rows[changed])

    def moved(index: int) -> float:
        row, true = int(rows[index]), int(label[index])
        if row not in old_p or row not in new_p:
            return 0.0
        difference = abs(new_p[row][true] - old_p[row][true])
        return -difference if math.isfinite(difference) else 0.0

    def most_moved(mask: NDArray[np.bool_]) -> list[int]:
        return sorted((int(index) for index in np.flatnonzero(mask)), key=moved)[:at_most]

    fixed, broken = most_moved(~was_right & is_right), most_moved(was_right & ~is_right)
    texts = read_test_texts(folder, rows[[*fixed, *broken]]) if fixed or broken else {}

    def example(index: int) -> Example:
        row = int(rows[index])
        first, second = int(old.predicted[at_old][index]), int(new.predicted[at_new][index])
        return Example(
            row,
            texts.get(row),
            int(label[index]),
            first,
            _probability(old_p.get(row), first),
            second,
            _probability(new_p.get(row), second),
        )

    return Changes(
        before,
        after,
        int((~was_right & is_right).sum()),
        int((was_right & ~is_right).sum()),
        int((was_right & is_right).sum()),
        int((~was_right & ~is_right).sum()),
        tuple(example(index) for index in fixed),
        tuple(example(index) for index in broken),
    )


def _first(study: StudyRecord, predictions: Mapping[str, Predictions], methods: Sequence[str]) -> RunRecord | None:
    """The run with the lowest seed of the first method that has predictions."""
    for method in methods:
        runs = [run for run in study.runs if run.method == method and run.id in predictions]
        if runs:
            return min(runs, key=lambda run: run.seed)
    return None


def _probability(values: Sequence[float] | None, index: int) -> float | None:
    return values[index] if values is not None and math.isfinite(values[index]) else None
