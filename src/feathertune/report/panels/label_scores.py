"""Precision, recall and F1 of each label, where a text may have several: in the place of a confusion matrix.

From the predictions beside the record. Not for one label a text: see `feathertune.report.panels.confusions`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from feathertune.records import RunRecord, StudyRecord
from feathertune.report.drawing.svg import Style
from feathertune.report.limits import Limits
from feathertune.report.panels.confusions import class_names
from feathertune.report.rows import Method
from feathertune.report.side_files import Predictions
from feathertune.tasks import Task


@dataclass(frozen=True)
class LabelScore:
    """One label; shares are of all seeds together, ``None`` where there is nothing to divide by.

    Attributes:
        n_rows: Test rows that have it.
        threshold: Probability from which it is given, the mean over the seeds.
    """

    name: str
    n_rows: int
    precision: float | None
    recall: float | None
    f1: float
    threshold: float | None


@dataclass(frozen=True)
class LabelScores:
    """One method's labels, the most frequent first; as many as the report shows."""

    method: str
    style: Style
    n_seeds: int
    labels: tuple[LabelScore, ...]


def find_label_scores(
    task: Task,
    study: StudyRecord,
    methods: Sequence[Method],
    done: Sequence[RunRecord],
    predictions: Mapping[str, Predictions],
    limits: Limits,
) -> tuple[LabelScores, ...]:
    """Of the first methods, the recommended one first."""
    if "label_scores" not in task.panels:
        return ()
    names = class_names(study, limits)
    found = []
    for method in sorted(methods, key=lambda m: not m.recommended)[: limits.cards]:
        runs = [run for run in done if run.method == method.row.method and run.id in predictions]
        if not runs:
            continue
        counts = sum(_counts(predictions[run.id], len(names)) for run in runs)
        assert isinstance(counts, np.ndarray), "there is a run"
        has, given, both = counts
        scores = [
            LabelScore(
                name=name,
                n_rows=int(has[label]) // len(runs),
                precision=float(both[label] / given[label]) if given[label] else None,
                recall=float(both[label] / has[label]) if has[label] else None,
                f1=float(2 * both[label] / max(1, has[label] + given[label])),
                threshold=_threshold(runs, label),
            )
            for label, name in enumerate(names)
        ]
        scores.sort(key=lambda score: -score.n_rows)
        found.append(LabelScores(method.row.method, method.style, len(runs), tuple(scores[: limits.labels])))
    return tuple(found)


def _counts(predictions: Predictions, n: int) -> np.ndarray:
    """Rows that have each label, that are given it, and both, ``(3, C)``."""
    counts = np.zeros((3, n), dtype=np.int64)
    sets = predictions.sets or ()
    for label, predicted in zip(predictions.label, predictions.predicted, strict=True):
        has, given = set(sets[label]), set(sets[predicted])
        for place, indices in enumerate((has, given, has & given)):
            counts[place, list(indices)] += 1
    return counts


def _threshold(runs: Sequence[RunRecord], label: int) -> float | None:
    values = [run.thresholds[label] for run in runs if run.thresholds is not None and label < len(run.thresholds)]
    return fmean(values) if values else None
