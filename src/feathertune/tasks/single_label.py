"""One label per text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from feathertune.records import Metrics, Scores
from feathertune.tasks.calibration import LIKELIHOOD_OF_CLASSES, apply_temperature, calibrate
from feathertune.tasks.labels.classes import CLASS_LABELS
from feathertune.tasks.linear_models import CLASS_MODELS
from feathertune.tasks.metrics import score
from feathertune.tasks.mislabelled import mislabelled_classes
from feathertune.tasks.scores import ACCURACY, BALANCED_ACCURACY, IMBALANCED_SHARE, MACRO_F1, MCC, Score
from feathertune.tasks.task import Column, Probabilities, Task, Thresholds, Wording
from feathertune.tasks.thresholds import fit_macro_f1_thresholds

_ROUNDING = 1e-9


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return probabilities ``(N, C)`` float64 of logits ``(N, C)``; each row sums to 1."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def largest(probabilities: Probabilities, thresholds: Thresholds) -> NDArray[np.integer]:
    """Return the index of each row's largest probability, ``(N,)``, each divided by its threshold first."""
    best: NDArray[np.integer] = (probabilities if thresholds is None else probabilities / thresholds).argmax(axis=1)
    return best


def _choose(counts: Sequence[int]) -> Score:
    """Prefer balanced accuracy if one class has most training rows: accuracy then rewards ignoring the others."""
    return BALANCED_ACCURACY if max(counts) > IMBALANCED_SHARE * sum(counts) else ACCURACY


def _is_constant(scores: Scores, counts: Sequence[int]) -> bool:
    assert isinstance(scores, Metrics), "scores of classes"
    shares = [count / sum(counts) for count in counts] if any(counts) else []
    return scores.mcc == 0 and any(abs(scores.accuracy - share) < _ROUNDING for share in shares)


SINGLE_LABEL = Task(
    name="single_label",
    labels=CLASS_LABELS,
    problem_type="single_label_classification",
    scores=(ACCURACY, BALANCED_ACCURACY, MACRO_F1, MCC),
    primary=ACCURACY,
    choose=_choose,
    record=Metrics,
    probabilities=softmax,
    fit_thresholds=lambda labels, probabilities: None,
    decide=largest,
    evaluate=lambda labels, probabilities, thresholds: score(labels, probabilities, largest(probabilities, thresholds)),
    likelihood=LIKELIHOOD_OF_CLASSES,
    linear=CLASS_MODELS,
    order=lambda scores: (ACCURACY.of(scores), -scores.loss),
    is_constant=_is_constant,
    columns=(
        Column("accuracy", "Accuracy", "share"),
        Column("balanced_accuracy", "Balanced accuracy", "share", "Balanced accuracy: mean recall over the classes."),
        Column("macro_f1", "Macro F1"),
        Column("mcc", "MCC", note="MCC: Matthews correlation, 0 is chance and 1 perfect."),
        Column("log_loss", "Log loss"),
        Column("ece", "ECE", note="ECE: expected calibration error."),
    ),
    panels=frozenset({"classes", "confusions", "changes", "predictions"}),
    words=Wording(
        answer="a text has one label here",
        constant="the most frequent class",
        constant_line="largest class",
        mislabelled="test rows look mislabelled",
        linear_model="logistic regression",
    ),
    calibrate=calibrate,
    temper=apply_temperature,
    find_mislabelled=mislabelled_classes,
    fit_moved=fit_macro_f1_thresholds,
    order_moved=lambda scores: (MACRO_F1.of(scores), -scores.loss),
)
