"""Build answers for feathertune's statistics from correct and wrong rows."""

from __future__ import annotations

import numpy as np

from feathertune.statistics.measures import ACCURACY, BALANCED_ACCURACY, Answers


def right_or_wrong(correct: np.ndarray, classes: np.ndarray | None = None) -> Answers:
    """Return the answers of S seeds to N rows, scored by accuracy, or by balanced accuracy if classes are given.

    Args:
        correct: True for each correct answer, ``(S, N)`` bool.
        classes: Class of each row, ``(N,)``.
    """
    if classes is None:
        return ACCURACY.answers(np.ones(correct.shape[1], bool), correct)
    return BALANCED_ACCURACY.answers(classes, np.where(correct, classes, -1))
