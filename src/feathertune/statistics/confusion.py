"""Scores of a confusion matrix as means over test rows: macro F1 and Matthews correlation.

Both are ratios of counts over all rows together. To first order each is a mean over rows: of the score plus the row's
influence on it (delta method). Labels and predictions are class indices ``(N,)``, or ``(N, C)`` of 0 and 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def macro_f1_contributions(labels: NDArray[Any], predicted: NDArray[Any]) -> NDArray[np.float64]:
    """Return macro F1 plus each row's influence on it, ``(N,)``.

    A class's F1 is the share of rows that have it and are predicted as it, over the mean of the two shares that have it
    or are predicted as it. Classes on neither side do not count; labels on neither side count 0.
    """
    if labels.ndim == 2:
        has, given = labels.astype(np.float64), predicted.astype(np.float64)
        half = (has.mean(axis=0) + given.mean(axis=0)) / 2
        scale = np.divide(1.0, half, out=np.zeros_like(half), where=half > 0)
        f1 = (has * given).mean(axis=0) * scale
        influence = (has * given - f1 * (has + given) / 2) * scale
        values: NDArray[np.float64] = f1.mean() + influence.mean(axis=1)
        return values
    y, x, n_classes = _ranked(labels, predicted)
    n, right = len(y), y == x
    half = (np.bincount(y, minlength=n_classes) + np.bincount(x, minlength=n_classes)) / (2 * n)
    f1 = np.bincount(y[right], minlength=n_classes) / n / half
    influence = right / half[y] - (f1 / half)[y] / 2 - (f1 / half)[x] / 2
    return np.asarray(f1.mean() + influence / n_classes)


def _ranked(labels: NDArray[Any], predicted: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp], int]:
    """Return labels and predictions as ranks among the classes that occur, and the number of such classes."""
    classes, ranks = np.unique(np.concatenate([labels, predicted]), return_inverse=True)
    return ranks[: len(labels)], ranks[len(labels) :], len(classes)


def mcc_contributions(labels: NDArray[Any], predicted: NDArray[Any]) -> NDArray[np.float64]:
    """Return Matthews correlation plus each row's influence on it, ``(N,)``; all 0 if one side has one class.

    It is the correlation of the one-hot labels and predictions. With several labels per text, each pair of text and
    label is one decision, and a row contributes the mean of its decisions.

    Source: Gorodkin 2004, Comparing two K-category assignments by a K-category correlation coefficient, Comput. Biol.
    Chem. 28, 367-374.
    """
    if labels.ndim == 2:
        decisions: NDArray[np.float64] = mcc_contributions(labels.ravel(), predicted.ravel()).reshape(labels.shape)
        return np.asarray(decisions.mean(axis=1))
    y, x, n_classes = _ranked(labels, predicted)
    right = (y == x).astype(np.float64)
    p, q = (np.bincount(side, minlength=n_classes) / len(y) for side in (y, x))
    chance, varies_y, varies_x = float(p @ q), 1 - float(p @ p), 1 - float(q @ q)
    scale = np.sqrt(varies_y * varies_x)
    if scale == 0:
        return np.zeros(len(y))
    mcc = (right.mean() - chance) / scale
    together = right - right.mean() + 2 * chance - q[y] - p[x]
    alone = (1 - varies_y - p[y]) / varies_y + (1 - varies_x - q[x]) / varies_x
    return np.asarray(mcc + together / scale - mcc * alone)


def one_error_per_class(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return one right and one wrong row for each class (or label), as labels and predictions.

    Added to the test rows, they give classes without errors a variance, as adding successes and failures does for a
    share. The wrong row is predicted as the largest other class.

    Source: Agresti & Coull 1998, Approximate is better than "exact" for interval estimation of binomial proportions,
    Am. Stat. 52, 119-126.
    """
    if labels.ndim == 2:
        each = np.eye(labels.shape[1], dtype=labels.dtype)
        return np.concatenate([each, each]), np.concatenate([each, np.zeros_like(each)])
    classes, sizes = np.unique(labels, return_counts=True)
    largest = classes[np.argsort(-sizes, kind="stable")]
    other = largest[1] if len(largest) > 1 else largest[0] + 1
    return np.concatenate([classes, classes]), np.concatenate(
        [classes, np.where(classes == largest[0], other, largest[0])]
    )
