"""What a text is given: one label, any number of them, or a number. All that follows from it stands here, once.

A `Task` is a value: how logits become probabilities, how predictions are decided and scored, which score leads, and
which of two epochs is the better one. Nobody else asks for the task by its name to compute something. Labels
say the task by their shape and type: ``(N,)`` class indices; ``(N, C)`` of 0 and 1, which label belongs to which text;
``(N,)`` floats, the numbers themselves. `task_of` tells.

Whether an answer is *right* is a question with two answers per text in both: of several labels, all that belong there
have to be given, and no other. The share of right answers is scikit-learn's ``accuracy_score``, called subset accuracy
there; so intervals, paired tests and verdicts (`feathertune.statistics.inference`) are the same for both tasks, and
exact. F1, which is kinder where most labels of a text are right, stands beside it. No predicted number is right; how
well they are ordered is a score of all rows together, and has statistics of its own.

Not for what a text is (`feathertune.data.reading.texts`), nor for what a training lowers (`feathertune.tasks.losses`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from feathertune.records import (
    METRIC_TITLES,
    Calibration,
    MetricName,
    Metrics,
    MultiLabelMetrics,
    NumberMetrics,
    Scores,
    TaskName,
)
from feathertune.tasks.calibration import calibrate, calibrate_sets
from feathertune.tasks.metrics import score, score_numbers, score_sets
from feathertune.tasks.thresholds import THRESHOLD, fit_f1_thresholds, fit_macro_f1_thresholds

# Of any of the three kinds.
Labels = NDArray[Any]


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: As records and bundles write it.
        problem_type: transformers' word, by which a model chooses its loss.
        probabilities: Of logits ``(N, C)``, ``(N, C)`` float64. Of numbers C is 1, and this is the number itself.
        fit_thresholds: Of labels and probabilities of validation rows, thresholds ``(C,)``; None where none are used.
        decide: Of probabilities and thresholds, what is predicted, of the shape of labels. Of several labels those
            whose probability reaches its threshold; of one label the largest probability, each divided by its
            threshold where there are some; of numbers the one that there is.
        score: Of labels, probabilities and thresholds.
        order: Of the scores of a validation set, what is larger the better the epoch.
        scores: Their type, for reading them again.
        leads: The score that leads.
        calibrate: Of labels and probabilities of validation rows, then of test rows, and of what is decided of the
            latter, how far these probabilities can be believed. None where they are not of being right.
    """

    name: TaskName
    problem_type: str
    probabilities: Callable[[NDArray[np.floating]], NDArray[np.float64]]
    fit_thresholds: Callable[[Labels, NDArray[np.floating]], NDArray[np.float64] | None]
    decide: Callable[[NDArray[np.floating], NDArray[np.float64] | None], Labels]
    score: Callable[[Labels, NDArray[np.floating], NDArray[np.float64] | None], Scores]
    order: Callable[[Scores], tuple[float, ...]]
    scores: type[Scores]
    leads: MetricName = "accuracy"
    calibrate: (
        Callable[
            [
                NDArray[np.integer],
                NDArray[np.floating],
                NDArray[np.integer],
                NDArray[np.floating],
                NDArray[np.integer],
            ],
            Calibration,
        ]
        | None
    ) = None

    @property
    def metric(self) -> str:
        """What the leading score is called."""
        return METRIC_TITLES[self.name, self.leads]

    def led_by(self, metric: MetricName) -> Task:
        """The same task with another score in the lead, by which the better epoch is then chosen; at a tie, by loss."""
        if metric == self.leads:
            return self
        return replace(self, leads=metric, order=lambda scores: (scores.leading(metric), -scores.loss))

    def deciding(self, decision: Literal["largest", "moved"]) -> Task:
        """The same task under the setting ``train.decision``, which means something where a text has one label."""
        if decision == "largest" or self.name != "single_label":
            return self
        return replace(self, fit_thresholds=fit_macro_f1_thresholds, order=_order_of_moved)

    def read_scores(self, values: Mapping[str, Any]) -> Scores:
        """Scores that were written down."""
        return self.scores.model_validate(values)

    def score_fitted(self, labels: Labels, probabilities: NDArray[np.floating]) -> Scores:
        """Scores of validation rows, with thresholds that are fitted to these very rows."""
        return self.score(labels, probabilities, self.fit_thresholds(labels, probabilities))


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities ``(N, C)`` float64 of logits ``(N, C)``; each row sums to 1."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def sigmoid(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities ``(N, C)`` float64 of logits ``(N, C)``, each by itself."""
    values = logits.astype(np.float64)
    small = np.exp(-np.abs(values))  # never of a large number
    return np.where(values >= 0, 1 / (1 + small), small / (1 + small))


def _largest(probabilities: NDArray[np.floating], thresholds: NDArray[np.float64] | None) -> NDArray[np.integer]:
    """Of one label a text its index, ``(N,)``; the lower one where two are equal."""
    best: NDArray[np.integer] = (probabilities if thresholds is None else probabilities / thresholds).argmax(axis=1)
    return best


def _order_of_sets(scores: Scores) -> tuple[float, ...]:
    assert isinstance(scores, MultiLabelMetrics), "scores of several labels"
    return scores.micro_f1, -scores.loss


def _order_of_moved(scores: Scores) -> tuple[float, ...]:
    """By what thresholds are fitted for; at a tie, by the lower loss."""
    assert isinstance(scores, Metrics), "scores of classes"
    return scores.macro_f1, -scores.loss


def _order_of_one(scores: Scores) -> tuple[float, ...]:
    """More right answers; at a tie, the lower loss."""
    return scores.leading("accuracy"), -scores.loss


SINGLE_LABEL = Task(
    name="single_label",
    problem_type="single_label_classification",
    probabilities=softmax,
    fit_thresholds=lambda labels, probabilities: None,
    decide=_largest,
    score=lambda labels, probabilities, thresholds: score(labels, probabilities, _largest(probabilities, thresholds)),
    order=_order_of_one,
    scores=Metrics,
    # The most probable class, whatever is decided.
    calibrate=lambda known, found, labels, test, decided: calibrate(known, found, labels, test),
)
MULTI_LABEL = Task(
    name="multi_label",
    problem_type="multi_label_classification",
    probabilities=sigmoid,
    fit_thresholds=fit_f1_thresholds,
    decide=lambda probabilities, thresholds: (
        probabilities >= (THRESHOLD if thresholds is None else thresholds)
    ).astype(np.int8),
    score=lambda labels, probabilities, thresholds: score_sets(
        labels, probabilities, probabilities >= (THRESHOLD if thresholds is None else thresholds)
    ),
    # While no text has all of its labels right yet, F1 rises already.
    order=_order_of_sets,
    scores=MultiLabelMetrics,
    calibrate=calibrate_sets,
)
REGRESSION = Task(
    name="regression",
    problem_type="regression",
    probabilities=lambda logits: np.asarray(logits, dtype=np.float64),
    fit_thresholds=lambda labels, numbers: None,
    decide=lambda numbers, thresholds: np.asarray(numbers[:, 0]),
    score=lambda labels, numbers, thresholds: score_numbers(labels, numbers[:, 0]),
    # The loss, not the rank correlation: an epoch that orders well by numbers that are far off is not the better one.
    order=lambda scores: (-scores.loss,),
    scores=NumberMetrics,
    leads="spearman",
)
TASKS: dict[TaskName, Task] = {task.name: task for task in (SINGLE_LABEL, MULTI_LABEL, REGRESSION)}


def task_of(labels: Labels) -> Task:
    """The task of labels: ``(N,)`` integers or floats, or ``(N, C)``."""
    if labels.ndim == 2:
        return MULTI_LABEL
    return REGRESSION if labels.dtype.kind == "f" else SINGLE_LABEL
