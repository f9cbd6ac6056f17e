"""Precision, recall and F1 of each label, if a text may have several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from feathertune.records import RunRecord, StudyRecord
from feathertune.report.drawing.svg import Style
from feathertune.report.panels.confusions import class_names
from feathertune.report.rows import Limits, Method, recommended_first
from feathertune.report.side_files import Predictions
from feathertune.tasks import Task


@dataclass(frozen=True)
class LabelScore:
    """One label over all seeds; a share is ``None`` if there is nothing to divide by, `threshold` a mean."""

    name: str
    n_rows: int
    precision: float | None
    recall: float | None
    f1: float
    threshold: float | None


@dataclass(frozen=True)
class LabelScores:
    """One method's labels, the most frequent first."""

    method: str
    style: Style
    n_seeds: int
    labels: tuple[LabelScore, ...]


def find_label_scores(
    task: Task,
    study: StudyRecord,
    methods: Sequence[Method],
    readable: Sequence[RunRecord],
    predictions: Mapping[str, Predictions],
    limits: Limits,
) -> tuple[LabelScores, ...]:
    """Return the scores of the first methods, the recommended one first."""
    if "label_scores" not in task.panels:
        return ()
    names = class_names(study, limits)
    found = []
    for method, runs in recommended_first(methods, readable, limits):
        label = np.concatenate([predictions[run.id].label for run in runs])
        predicted = np.concatenate([predictions[run.id].predicted for run in runs])
        has, given, both = label.sum(axis=0), predicted.sum(axis=0), (label & predicted).sum(axis=0)
        scores = [
            LabelScore(
                name=name,
                n_rows=int(has[index]) // len(runs),
                precision=float(both[index] / given[index]) if given[index] else None,
                recall=float(both[index] / has[index]) if has[index] else None,
                f1=float(2 * both[index] / max(1, has[index] + given[index])),
                threshold=_threshold(runs, index),
            )
            for index, name in enumerate(names)
        ]
        scores.sort(key=lambda score: -score.n_rows)
        found.append(LabelScores(method.row.method, method.style, len(runs), tuple(scores[: limits.labels])))
    return tuple(found)


def _threshold(runs: Sequence[RunRecord], label: int) -> float | None:
    values = [run.thresholds[label] for run in runs if run.thresholds is not None and label < len(run.thresholds)]
    return fmean(values) if values else None
