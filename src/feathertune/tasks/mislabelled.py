"""Find test rows that are likely mislabelled: every trained model confidently predicts the same other answer.

A model that has only learned that a class is rare is confident of the other classes on every row. For a rare class, the
remaining probability must therefore be lower: at most (1 - `SURE`) of the probability that it has without the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SURE = 0.9


@dataclass(frozen=True)
class Mislabelled:
    """A test row's label that is likely wrong; `predicted` is None if labels are decided one by one."""

    row: int
    label: int
    given: bool
    predicted: int | None
    confidence: float


@dataclass(frozen=True)
class RunOpinion:
    """Calibrated probabilities ``(N, C)`` of one run, and its predictions ``(N,)`` or ``(N, C)``."""

    probabilities: NDArray[np.floating]
    predicted: NDArray[Any]


def mislabelled_classes(labels: NDArray[np.integer], opinions: Sequence[RunOpinion]) -> list[Mislabelled]:
    """Find rows of labels ``(N,)`` that all runs assign to the same other class."""
    every = np.arange(len(labels))
    first = opinions[0].probabilities.argmax(axis=1)
    confidence, left = np.ones(len(labels)), np.zeros(len(labels))
    for run in opinions:
        confidence = np.minimum(confidence, run.probabilities[every, first])
        confidence[run.predicted != first] = 0.0  # by its thresholds, the run does not predict the most probable class
        left = np.maximum(left, run.probabilities[every, labels])
    sizes = np.bincount(labels)
    rarity = np.minimum(1.0, sizes * np.count_nonzero(sizes) / len(labels))[labels]
    rows = np.flatnonzero((confidence >= SURE) & (left <= (1 - SURE) * rarity) & (first != labels))
    return [Mislabelled(int(row), int(labels[row]), True, int(first[row]), float(confidence[row])) for row in rows]


def mislabelled_sets(labels: NDArray[np.integer], opinions: Sequence[RunOpinion]) -> list[Mislabelled]:
    """Find single labels of ``(N, C)``, given or missing, that all runs decide the other way."""
    has, most = labels.astype(bool), np.zeros(labels.shape)
    for run in opinions:
        of_given = np.where(has, run.probabilities, 1 - run.probabilities)
        of_given[run.predicted.astype(bool) == has] = 1.0  # by its threshold, the run agrees with the given label
        most = np.maximum(most, of_given)
    without_text = np.where(has, has.mean(axis=0), 1 - has.mean(axis=0))
    return [
        Mislabelled(int(row), int(label), bool(has[row, label]), None, float(1 - most[row, label]))
        for row, label in np.argwhere(most <= (1 - SURE) * without_text)
    ]
