"""Answers of one method for the statistics, from right and wrong rows or from numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from feathertune.statistics.measures import ACCURACY, BALANCED_ACCURACY, SPEARMAN, Answers


def accuracy(correct: ArrayLike) -> Answers:
    """Answers that are right or wrong as given, ``(S, N)``."""
    right = np.asarray(correct, bool)
    return ACCURACY.answers(np.ones(right.shape[-1], bool), right)


def balanced(correct: ArrayLike, classes: ArrayLike) -> Answers:
    """The same of rows with these classes, ``(N,)``; a wrong answer is a class that does not exist."""
    return BALANCED_ACCURACY.answers(classes, np.where(correct, classes, -1))


def spearman(labels: ArrayLike, predicted: ArrayLike) -> Answers:
    """Numbers ``(S, N)`` for labels ``(N,)``."""
    return SPEARMAN.answers(labels, predicted)
