"""The methods of two studies in pairs, and the paired tests of those that both were tested with on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feathertune.records import TRAINED_KINDS, StudyRecord, at_largest_size
from feathertune.report.comparison import Differing, MethodPair, Paired
from feathertune.report.side_files import read_answers
from feathertune.statistics.inference import holm, paired_difference
from feathertune.statistics.measures import Answers
from feathertune.study.versus.differing import causes
from feathertune.tasks import task_of_study

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


def _answers(study: StudyRecord, folder: Path, method: str) -> Answers | None:
    """Return a method's answers to the test rows, or None if a run's predictions are incomplete."""
    predicted: list[NDArray[Any]] = []
    labels = np.zeros(0)
    for run in at_largest_size(study.runs):  # as the rows next to the difference
        if run.method == method and run.status == "complete":
            found = read_answers(folder, run, study.data.labels)
            if found is None or not np.array_equal(found.row, np.arange(study.data.n_test)):
                return None
            labels = found.label
            predicted.append(found.predicted)
    if not predicted:
        return None
    return task_of_study(study).primary.measure.answers(labels, np.stack(predicted))
