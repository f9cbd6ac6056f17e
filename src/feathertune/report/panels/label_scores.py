"""Precision, recall and F1 of each label, if a text may have several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from types import SimpleNamespace

import numpy as np

from feathertune.records import RunRecord, StudyRecord
from feathertune.report.panels.confusions import class_names
from feathertune.report.rows import Limits, Method, recommended_first
from feathertune.report.side_files import Predictions
from feathertune.tasks import Task


def find_label_scores(
    task: Task,
    study: StudyRecord,
    methods: Sequence[Method],
    readable: Sequence[RunRecord],
    predictions: Mapping[str, Predictions],
    limits: Limits,
) -> tuple[SimpleNamespace, ...]:
    """Return the scores of the first methods over all seeds, the recommended one first, the most frequent label first.

    A share is ``None`` if there is nothing to divide by; a threshold is the mean over the seeds.
    """
    if "label_scores" not in task.panels:
        return ()
    names = class_names(study, limits)
    found = []
    for method, runs in recommended_first(methods, readable, limits):
        label = np.concatenate([predictions[run.id].label for run in runs])
        predicted = np.concatenate([predictions[run.id].predicted for run in runs])
        has, given, both = label.sum(axis=0), predicted.sum(axis=0), (label & predicted).sum(axis=0)
        scores = [
            SimpleNamespace(
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
        labels = scores[: limits.labels]
        found.append(SimpleNamespace(method=method.row.method, style=method.style, n_seeds=len(runs), labels=labels))
    return tuple(found)


def _threshold(runs: Sequence[RunRecord], label: int) -> float | None:
    values = [run.thresholds[label] for run in runs if run.thresholds is not None and label < len(run.thresholds)]
    return fmean(values) if values else None
