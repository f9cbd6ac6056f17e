"""Test rows that a trained method fixed or broke, compared with the probed or untrained encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from feathertune.records import TRAINED_KINDS, RunRecord, StudyRecord
from feathertune.records.row_names import base_of_row, row_name
from feathertune.report.drawing import run_charts
from feathertune.report.side_files import Predictions, read_probabilities, read_test_texts


def find_changes(
    study: StudyRecord, folder: Path, predictions: Mapping[str, Predictions], *, at_most: int
) -> SimpleNamespace | None:
    """Compare `probe`, else `foundation`, with the recommended trained method, else the best one.

    At most `at_most` examples of each kind are kept: those whose probability of the true class changed most. An
    example's probabilities are those of the predicted classes, if known.
    """
    trained = [row for row in study.summary if row.kind in TRAINED_KINDS]
    trained.sort(key=lambda row: (row.method != study.verdict.recommended, -row.score_mean))
    after = _first(study, predictions, [row.method for row in trained])
    base = None if after is None else base_of_row(after.method)
    before = _first(study, predictions, [row_name(method, base) for method in ("probe", "foundation")])
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

    mended, damaged = ~was_right & is_right, was_right & ~is_right
    fixed, broken = most_moved(mended), most_moved(damaged)
    texts = read_test_texts(folder, rows[[*fixed, *broken]]) if fixed or broken else {}

    def example(index: int) -> SimpleNamespace:
        row = int(rows[index])
        first, second = int(old.predicted[at_old][index]), int(new.predicted[at_new][index])
        return SimpleNamespace(
            row=row,
            text=texts.get(row),
            true=int(label[index]),
            before=first,
            before_probability=_probability(old_p.get(row), first),
            after=second,
            after_probability=_probability(new_p.get(row), second),
        )

    n_fixed, n_broken = int(mended.sum()), int(damaged.sum())
    parts = (
        ("both right", int((was_right & is_right).sum()), "both"),
        ("fixed", n_fixed, "fixed"),
        ("broken", n_broken, "broken"),
        ("both wrong", int((~was_right & ~is_right).sum()), "neither"),
    )
    return SimpleNamespace(
        before=before,
        after=after,
        fixed=tuple(map(example, fixed)),
        broken=tuple(map(example, broken)),
        n_fixed=n_fixed,
        n_broken=n_broken,
        parts=parts,
        bar=run_charts.shares_bar(parts),
    )


def _first(study: StudyRecord, predictions: Mapping[str, Predictions], methods: Sequence[str]) -> RunRecord | None:
    """Return the run with the lowest seed of the first method that has predictions."""
    for method in methods:
        runs = [run for run in study.runs if run.method == method and run.id in predictions]
        if runs:
            return min(runs, key=lambda run: run.seed)
    return None


def _probability(values: Sequence[float] | None, index: int) -> float | None:
    return values[index] if values is not None and math.isfinite(values[index]) else None
