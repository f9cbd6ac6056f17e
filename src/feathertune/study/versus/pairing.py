"""Pair the methods of two studies, and test their differences on the same test rows."""

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


def pair_methods(a: StudyRecord, b: StudyRecord, differing: Sequence[Differing]) -> list[MethodPair]:
    """Return the methods of both in the order of A, then those of one study only."""
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


def fill_tests(pairs: Sequence[MethodPair], first: tuple[StudyRecord, Path], second: tuple[StudyRecord, Path]) -> None:
    """Fill in the paired tests of methods with results in both studies, Holm-corrected."""
    found: list[tuple[MethodPair, Paired]] = []
    for pair in pairs:
        before, after = _answers(*first, pair.method), _answers(*second, pair.method)
        if before is None or after is None:
            pair.untested = "predictions cannot be read"
            continue
        mean, low, high, p = paired_difference(after, before)
        alike = np.array_equal(before.values, after.values)
        pair.paired = Paired(difference=mean, low=low, high=high, p=p, alike=alike)
        found.append((pair, pair.paired))
    # Methods for which nothing differs answer another question, so they are corrected separately.
    for expected in (True, False):
        family = [paired for pair, paired in found if bool(pair.causes) == expected]
        for paired, p in zip(family, holm([paired.p for paired in family]), strict=True):
            paired.p = p


def _answers(study: StudyRecord, folder: Path, method: str) -> Answers | None:
    """Return a method's answers to the test rows, or None if a run's predictions cannot be read."""
    predicted: list[NDArray[Any]] = []
    labels = np.zeros(0)
    for run in at_largest_size(study.runs):  # as the rows of the summary
        if run.method == method and run.status == "complete":
            found = read_answers(folder, run, study.data.labels)
            if found is None or not np.array_equal(found.row, np.arange(study.data.n_test)):
                return None
            labels = found.label
            predicted.append(found.predicted)
    return task_of_study(study).primary.measure.answers(labels, np.stack(predicted)) if predicted else None
