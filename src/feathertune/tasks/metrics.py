"""Score one set of predictions, by scikit-learn except for the calibration error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from feathertune.errors import DataError
from feathertune.records import Metrics, MultiLabelMetrics, NumberMetrics

# Probabilities are raised to this before the logarithm: about the step of fp32 below 1, so that a softmax in
# fp32 and one in fp64 get the same loss. A single row can cost at most -ln(1e-7) = 16.1.
PROBABILITY_FLOOR = 1e-7
CALIBRATION_BINS = 15
_SUM_TOLERANCE = 1e-3


def score(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating], predicted: NDArray[np.integer] | None = None
) -> Metrics:
    """Score probabilities ``(N, C)`` of classes ``(N,)``; raise a `DataError` for wrong shapes or values.

    The prediction is the largest probability, the lower index of equals, unless `predicted` ``(N,)`` is given. Macro F1
    averages over the classes that are present or predicted; an undefined Matthews correlation is 0.
    """
    from sklearn.metrics import accuracy_score, f1_score, log_loss, matthews_corrcoef

    labels, probabilities = _checked(labels, probabilities)
    largest = probabilities.argmax(axis=1)
    predicted = largest if predicted is None else predicted
    classes = range(probabilities.shape[1])
    clipped = np.maximum(probabilities, PROBABILITY_FLOOR)
    clipped /= clipped.sum(axis=1, keepdims=True)
    # scikit-learn warns if only one class occurs on both sides, since the coefficient is undefined.
    one_class = np.unique(np.concatenate([labels, predicted])).size == 1
    return Metrics(
        accuracy=float(accuracy_score(labels, predicted)),
        balanced_accuracy=balanced_accuracy(labels, predicted),
        macro_f1=float(f1_score(labels, predicted, average="macro", zero_division=0)),
        mcc=0.0 if one_class else float(matthews_corrcoef(labels, predicted)),
        log_loss=float(log_loss(labels, clipped, labels=classes)),
        ece=calibration_error(largest == labels, probabilities.max(axis=1)),
        n=labels.size,
    )


def balanced_accuracy(labels: NDArray[np.integer], predicted: NDArray[np.integer]) -> float:
    """Return the mean recall of the classes that are present, as scikit-learn does, without its warning about others.

    Source: Brodersen et al. 2010, The balanced accuracy and its posterior distribution, ICPR, 3121-3124.
    """
    from sklearn.metrics import recall_score

    return float(recall_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0))


def score_sets(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating], predicted: NDArray[np.bool_]
) -> MultiLabelMetrics:
    """Score predicted sets of labels, all ``(N, C)``; raise a `DataError` for wrong shapes or values.

    The F1 of a label that is neither present nor predicted is 0. The label ranking average precision of a text with no
    label, or with all, is 1. The confidence of a decision is the probability of the decided outcome.
    """
    from sklearn.metrics import (
        average_precision_score,
        f1_score,
        label_ranking_average_precision_score,
        matthews_corrcoef,
    )

    labels, values = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if labels.ndim != 2 or labels.shape != values.shape or labels.shape != predicted.shape or labels.size == 0:
        raise DataError(
            f"Labels of shape {labels.shape}, probabilities of shape {values.shape} and predictions of shape "
            f"{predicted.shape} cannot be scored. Expected (N, C) for all three, with N and C at least 1."
        )
    if not np.isin(labels, (0, 1)).all():
        raise DataError(f"Labels ({labels.dtype}, {labels.min()} to {labels.max()}) are not all 0 or 1.")
    fine = np.isfinite(values) & (values >= 0) & (values <= 1)
    _refuse(values, np.asarray(~fine.all(axis=1)), "numbers from 0 to 1")
    has, given = labels.astype(bool), predicted.astype(bool)
    clipped = np.clip(values, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    one_kind = has.all() == has.any() and given.all() == given.any() and has.any() == given.any()
    there = np.flatnonzero(has.any(axis=0))
    precisions = [float(average_precision_score(has[:, label], values[:, label])) for label in there]
    # scikit-learn does not read a single column as one label.
    lrap = 1.0 if has.shape[1] == 1 else float(label_ranking_average_precision_score(has, values))
    return MultiLabelMetrics(
        accuracy=float((has == given).all(axis=1).mean()),
        macro_f1=float(np.mean([f1_score(h, g, zero_division=0) for h, g in zip(has.T, given.T, strict=True)])),
        micro_f1=float(f1_score(has.ravel(), given.ravel(), zero_division=0)),
        mcc=0.0 if one_kind else float(matthews_corrcoef(has.ravel(), given.ravel())),
        log_loss=float(-np.where(has, np.log(clipped), np.log1p(-clipped)).mean()),
        ece=calibration_error((has == given).ravel(), np.where(given, values, 1 - values).ravel()),
        lrap=lrap,
        mean_average_precision=float(np.mean(precisions)) if precisions else 0.0,
        n=len(has),
    )


def score_numbers(labels: NDArray[np.floating], predicted: NDArray[np.floating]) -> NumberMetrics:
    """Score predicted numbers, both ``(N,)``; raise a `DataError` for wrong shapes or values. Equal labels have `r2` 0.

    Source: Spearman 1904, The proof and measurement of association between two things, Am. J. Psychol. 15, 72-101.
    """
    from scipy.stats import rankdata
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    y, x = np.asarray(labels, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if y.ndim != 1 or y.shape != x.shape or y.size == 0:
        raise DataError(
            f"Labels of shape {y.shape} and predictions of shape {x.shape} cannot be scored. Expected (N,) for both, "
            "with N at least 1."
        )
    if not np.isfinite(y).all():
        raise DataError(f"The label of row {int((~np.isfinite(y)).argmax())} is not a finite number.")
    if not np.isfinite(x).all():
        raise DataError(
            f"The prediction of row {int((~np.isfinite(x)).argmax())} is not a finite number. The model's output is "
            "broken, often because the learning rate is too high."
        )
    return NumberMetrics(
        spearman=correlation(rankdata(y), rankdata(x)),
        pearson=correlation(y, x),
        r2=float(r2_score(y, x)) if np.ptp(y) else 0.0,
        mae=float(mean_absolute_error(y, x)),
        rmse=float(root_mean_squared_error(y, x)),
        n=y.size,
    )


def correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return Pearson's correlation of two arrays ``(N,)``; 0 if one of them does not vary."""
    if not np.ptp(one) or not np.ptp(other):
        return 0.0
    a, b = one - one.mean(), other - other.mean()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


def calibration_error(correct: NDArray[np.bool_], confidence: NDArray[np.floating]) -> float:
    """Return the expected calibration error of answers and confidences ``(N,)``, over bins open below and closed above.

    Source: Guo et al. 2017, arXiv:1706.04599, equation 3.
    """
    edges = np.linspace(0.0, 1.0, CALIBRATION_BINS + 1)
    bins = np.digitize(confidence, edges[1:-1], right=True)
    gaps = np.bincount(bins, weights=confidence - correct, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / correct.size)


def _checked(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating]
) -> tuple[NDArray[np.integer], NDArray[np.float64]]:
    labels = np.asarray(labels)
    checked: NDArray[np.float64] = np.asarray(probabilities, dtype=np.float64)
    if labels.ndim != 1 or checked.ndim != 2 or len(labels) != len(checked) or labels.size == 0:
        raise DataError(
            f"Labels of shape {labels.shape} and probabilities of shape {checked.shape} cannot be "
            "scored. Expected (N,) and (N, C) with the same N, at least 1."
        )
    n_classes = checked.shape[1]
    if n_classes < 2:
        raise DataError(f"Probabilities of {n_classes} class cannot be scored. Expected at least two classes.")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= n_classes:
        raise DataError(
            f"Labels ({labels.dtype}, {labels.min()} to {labels.max()}) are not class indices. "
            f"Expected whole numbers from 0 to {n_classes - 1}."
        )
    wrong = ~np.isfinite(checked).all(axis=1)
    wrong |= (checked < 0).any(axis=1)
    wrong |= np.abs(checked.sum(axis=1) - 1) > _SUM_TOLERANCE
    _refuse(checked, wrong, "numbers from 0 to 1 that sum to 1")
    return labels, checked


def _refuse(probabilities: NDArray[np.float64], wrong: NDArray[np.bool_], expected: str) -> None:
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"The probabilities of row {row} are {probabilities[row].tolist()}. Expected {expected}. The model's "
            "output is broken, often because the learning rate is too high."
        )
