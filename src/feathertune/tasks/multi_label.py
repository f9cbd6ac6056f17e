"""Any number of labels per text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from feathertune.records import MultiLabelMetrics, Scores
from feathertune.tasks.calibration import LIKELIHOOD_OF_SETS, apply_temperature_to_sets, calibrate_sets
from feathertune.tasks.cards import SET_CARD, SET_CODE
from feathertune.tasks.labels.sets import LABEL_SETS
from feathertune.tasks.linear_models import LABEL_MODELS
from feathertune.tasks.metrics import score_sets
from feathertune.tasks.mislabelled import mislabelled_sets
from feathertune.tasks.scores import MACRO_F1, MCC, SUBSET_ACCURACY
from feathertune.tasks.task import Column, Probabilities, Task, Thresholds, Wording
from feathertune.tasks.thresholds import THRESHOLD, fit_f1_thresholds


def sigmoid(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return independent probabilities ``(N, C)`` float64 of logits ``(N, C)``."""
    values = logits.astype(np.float64)
    small = np.exp(-np.abs(values))  # never of a large number
    return np.where(values >= 0, 1 / (1 + small), small / (1 + small))


def _reached(probabilities: Probabilities, thresholds: Thresholds) -> NDArray[np.bool_]:
    return probabilities >= (THRESHOLD if thresholds is None else thresholds)


def _order(scores: Scores) -> tuple[float, ...]:
    """Prefer micro F1, which rises before any text has all of its labels right."""
    assert isinstance(scores, MultiLabelMetrics), "scores of several labels"
    return scores.micro_f1, -scores.loss


MULTI_LABEL = Task(
    name="multi_label",
    labels=LABEL_SETS,
    problem_type="multi_label_classification",
    scores=(SUBSET_ACCURACY, MACRO_F1, MCC),
    primary=SUBSET_ACCURACY,
    choose=lambda counts: SUBSET_ACCURACY,
    record=MultiLabelMetrics,
    probabilities=sigmoid,
    fit_thresholds=fit_f1_thresholds,
    decide=lambda probabilities, thresholds: _reached(probabilities, thresholds).astype(np.int8),
    evaluate=lambda labels, probabilities, thresholds: score_sets(
        labels, probabilities, _reached(probabilities, thresholds)
    ),
    likelihood=LIKELIHOOD_OF_SETS,
    linear=LABEL_MODELS,
    order=_order,
    # Shares of labels do not add up to rows, so one constant set cannot be recognised by its scores.
    is_constant=lambda scores, counts: False,
    columns=(
        Column("accuracy", "Subset accuracy", "share"),
        Column("micro_f1", "Micro F1"),
        Column("macro_f1", "Macro F1"),
        Column("lrap", "LRAP", note="LRAP: label ranking average precision."),
        Column("mean_average_precision", "mAP", note="mAP: mean average precision over the labels."),
        Column("mcc", "MCC", note="MCC, log loss and ECE: over all decisions, one per text and label."),
        Column("log_loss", "Log loss"),
        Column("ece", "ECE"),
    ),
    panels=frozenset({"classes", "label_scores", "predictions"}),
    words=Wording(
        answer="a text can have several labels here, and the set as a whole is right or wrong",
        constant="the labels that most texts have",
        constant_line="reads no text",
        mislabelled="labels of test rows look wrong, given or missing",
        linear_model="logistic regression",
        decision="decisions",
    ),
    card=SET_CARD,
    code=SET_CODE,
    default_threshold=THRESHOLD,
    calibrate=calibrate_sets,
    temper=apply_temperature_to_sets,
    find_mislabelled=mislabelled_sets,
)
