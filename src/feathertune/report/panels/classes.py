"""Panels by class: confusion matrices, or precision, recall and F1 by label if texts have several labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from feathertune.records import RunRecord, StudyRecord
from feathertune.report.drawing import run_charts
from feathertune.report.format import units
from feathertune.report.rows import Limits, Method, recommended_first
from feathertune.report.side_files import Predictions
from feathertune.tasks import Task


def class_names(study: StudyRecord, limits: Limits) -> list[str]:
    """Return the labels for display, shortened; a blank one becomes ``(blank)``."""
    return [units.clip(label, limits.words) if label.strip() else "(blank)" for label in study.data.labels]


def find_confusions(
    task: Task,
    study: StudyRecord,
    methods: Sequence[Method],
    readable: Sequence[RunRecord],
    predictions: Mapping[str, Predictions],
    limits: Limits,
) -> tuple[SimpleNamespace, ...]:
    """Return confusion matrices, means over seeds, the recommended method first.

    Matrices are drawn up to the limit of cells; the others list their worst pairs.
    """
    labels = class_names(study, limits)
    n = len(labels)
    if "confusions" not in task.panels or n == 0:
        return ()
    found, drawn = [], 0
    for method, runs in recommended_first(methods, readable, limits):
        pairs = [predictions[run.id].label * n + predictions[run.id].predicted for run in runs]
        counts = np.mean([np.bincount(cells, minlength=n * n).reshape(n, n) for cells in pairs], axis=0)
        fits = n <= 20 and drawn + n * n <= limits.cells
        drawn += n * n if fits else 0
        found.append(
            SimpleNamespace(
                method=method.row.method,
                style=method.style,
                n_seeds=len(runs),
                chart=run_charts.confusion(method.row.method, labels, counts) if fits else None,
                counts=counts.tolist() if fits else [],
                worst=() if fits else _worst(labels, counts),
            )
        )
    return tuple(found)


def _worst(labels: Sequence[str], counts: NDArray[np.float64]) -> tuple[tuple[str, str, float], ...]:
    """Return the ten most frequent confusions."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:10]
    pairs = [(int(index) // len(labels), int(index) % len(labels)) for index in order]
    return tuple((labels[true], labels[said], float(wrong[true, said])) for true, said in pairs if wrong[true, said])


def find_label_scores(
    task: Task,
    study: StudyRecord,
    methods: Sequence[Method],
    readable: Sequence[RunRecord],
    predictions: Mapping[str, Predictions],
    limits: Limits,
) -> tuple[SimpleNamespace, ...]:
    """Return scores by label over all seeds, the recommended method and the most frequent label first.

    A share is ``None`` if its denominator is 0; a threshold is the mean over seeds.
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
