"""The methods of two studies in pairs, and the paired tests of those that both were tested with on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feathertune.records import TRAINED_KINDS, StudyRecord, at_largest_size
from feathertune.report.comparison import Differing, MethodPair, Paired
from feathertune.report.side_files import read_numbers, read_predictions
from feathertune.statistics.answers import Scored
from feathertune.statistics.inference import holm, paired_difference
from feathertune.study.verdict.summary import scored
from feathertune.study.versus.differing import causes

UNREADABLE = "predictions cannot be read"


def pair_methods(a: StudyRecord, b: StudyRecord, differing: Sequence[Differing]) -> list[MethodPair]:
    """Methods of both in the order of A, then those of one alone."""
    rows_a, rows_b = ({row.method: row for row in study.summary} for study in (a, b))
    trained = {row.method for row in (*a.summary, *b.summary) if row.kind in TRAINED_KINDS}
    names = sorted({**rows_a, **rows_b}, key=lambda name: (name not in rows_a) + (name not in rows_b))
    return [
        MethodPair(
            method=name,
            a=rows_a.get(name),
            b=rows_b.get(name),
            causes=[place.key for place in causes(differing, name, trained=name in trained)],
        )
        for name in names
    ]


def tested(
    methods: Sequence[MethodPair], first: tuple[StudyRecord, Path], second: tuple[StudyRecord, Path]
) -> list[MethodPair]:
    """The methods of both with their paired tests, corrected for how many there are."""
    found: dict[str, Paired] = {}
    for pair in methods:
        if pair.a is None or pair.b is None:
            continue
        before, after = _answers(*first, pair.method), _answers(*second, pair.method)
        if before is not None and after is not None:
            difference = paired_difference(after, before)
            found[pair.method] = Paired(
                difference=difference.mean,
                low=difference.low,
                high=difference.high,
                p=difference.p,
                alike=np.array_equal(before.values, after.values),
            )
    # What nothing on record should change is no part of the question that the others are.
    corrected: dict[str, float] = {}
    for expected in (True, False):
        family = [pair.method for pair in methods if pair.method in found and bool(pair.causes) == expected]
        corrected |= zip(family, holm([found[method].p for method in family]), strict=True)
    return [
        pair.model_copy(update={"paired": found[pair.method].model_copy(update={"p": corrected[pair.method]})})
        if pair.method in found
        else pair.model_copy(update={"untested": UNREADABLE})
        if pair.a and pair.b
        else pair
        for pair in methods
    ]


def _answers(study: StudyRecord, folder: Path, method: str) -> Scored | None:
    """Those of a method to the test rows, or ``None`` where a run's predictions are not all there."""
    predicted: list[NDArray[Any]] = []
    labels: NDArray[Any] | None = None
    numbers = study.data.task == "regression"
    for run in at_largest_size(study.runs):  # as the rows that stand beside the difference
        if run.method == method and run.status == "complete":
            found = read_numbers(folder, run) if numbers else read_predictions(folder, run, len(study.data.labels))
            if found is None or not np.array_equal(found.row, np.arange(study.data.n_test)):
                return None
            predicted.append(found.predicted if numbers else found.label == found.predicted)
            if numbers:
                labels = found.label
            elif study.metric == "balanced_accuracy":  # by their names: two studies may have them in another order
                labels = np.unique(np.array(study.data.labels)[found.label], return_inverse=True)[1]
    return scored(predicted, labels) if predicted else None
