"""What a text is given: one label, or any number of them. All that follows from it stands here, once.

A `Task` is a value: how logits become probabilities, what a training lowers, how predictions are decided and scored,
which score leads, and which of two epochs is the better one. Nobody else asks for the task by its name to compute
something. Labels say the task by their shape: ``(N,)`` class indices, or ``(N, C)`` of 0 and 1, which label belongs to
which text; `task_of` tells.

Whether an answer is *right* is a question with two answers per text in both: of several labels, all that belong there
have to be given, and no other. The share of right answers is scikit-learn's ``accuracy_score``, called subset accuracy
there; so intervals, paired tests and verdicts (`feathertune.study.stats`) are the same for both tasks, and exact. F1,
which is kinder where most labels of a text are right, stands beside it.

Not for what a text is (`feathertune.data.texts`), nor for numbers to predict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feathertune.metrics import score, score_sets
from feathertune.records import HEADLINES, HeadlineName, Metrics, MultiLabelMetrics, TaskName

if TYPE_CHECKING:
    from torch import Tensor

# Before any threshold was fitted, and for a label of which validation knows too little.
THRESHOLD = 0.5
# A threshold is fitted to a label that has so many validation rows: fewer say nothing of where to cut.
LEAST_ROWS = 3
# So far a threshold stays away from 0 and 1, where a logit would be infinite.
_EDGE = 1e-6


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: As records and bundles write it.
        problem_type: transformers' word, by which a model chooses its loss.
        probabilities: Of logits ``(N, C)``, ``(N, C)`` float64.
        loss: Of logits ``(B, C)`` and labels, the sum over texts, a scalar; the labels ``(B,)`` or ``(B, C)``.
        fit_thresholds: Of labels and probabilities of validation rows, the probability from which each label is given,
            ``(C,)``; None where one label is given whatever its probability.
        decide: Of probabilities and thresholds, what is predicted, of the shape of labels.
        score: Of labels, probabilities and thresholds.
        order: Of the scores of a validation set, what is larger the better the epoch.
        scores: Their type, for reading them again.
        leads: The score that leads.
    """

    name: TaskName
    problem_type: str
    probabilities: Callable[[NDArray[np.floating]], NDArray[np.float64]]
    loss: Callable[[Tensor, Tensor], Tensor]
    fit_thresholds: Callable[[NDArray[np.integer], NDArray[np.floating]], NDArray[np.float64] | None]
    decide: Callable[[NDArray[np.floating], NDArray[np.float64] | None], NDArray[np.integer]]
    score: Callable[[NDArray[np.integer], NDArray[np.floating], NDArray[np.float64] | None], Metrics]
    order: Callable[[Metrics], tuple[float, ...]]
    scores: type[Metrics]
    leads: HeadlineName = "accuracy"

    @property
    def headline(self) -> str:
        """What the leading score is called."""
        return HEADLINES[self.name, self.leads]

    def led_by(self, headline: HeadlineName) -> Task:
        """The same task with another score in the lead, by which the better epoch is then chosen; at a tie, by loss."""
        if headline == self.leads:
            return self
        return replace(self, leads=headline, order=lambda scores: (scores.leading(headline), -scores.log_loss))

    def read_scores(self, values: Mapping[str, Any]) -> Metrics:
        """Scores that were written down."""
        return self.scores.model_validate(values)

    def score_fitted(self, labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> Metrics:
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


def fit_f1_thresholds(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """For each label the probability from which it is given, by the best F1 on validation rows.

    Args:
        labels: ``(N, C)`` of 0 and 1.
        probabilities: ``(N, C)``.

    Returns:
        ``(C,)``: halfway between the two probabilities that the best cut lies between, the higher cut where two are
        equal. 0.5 for a label with fewer than `LEAST_ROWS` rows, or of which all probabilities are one.

    Source: Yang 2001, A study of thresholding strategies for text categorization, SIGIR, 137-145 (SCut), with F1 as in
    Fan & Lin 2007, A study on threshold selection for multi-label classification.
    """
    values = np.asarray(probabilities, np.float64)
    found = np.full(labels.shape[1], THRESHOLD)
    for label in np.flatnonzero(labels.sum(axis=0) >= LEAST_ROWS):
        order = np.argsort(-values[:, label], kind="stable")
        p, right = values[order, label], np.cumsum(labels[order, label])
        below = np.append(p[1:], 0.0)
        f1 = np.where(p > below, 2 * right / (np.arange(1, len(p) + 1) + right[-1]), -1.0)
        if p[0] > p[-1]:
            best = int(f1.argmax())
            found[label] = (p[best] + below[best]) / 2
    clipped: NDArray[np.float64] = np.clip(found, _EDGE, 1 - _EDGE)
    return clipped


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    from torch.nn import functional

    return functional.cross_entropy(logits, labels, reduction="sum")


def _binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over the labels of a text, as transformers has it."""
    from torch.nn import functional

    loss = functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="sum")
    return loss / labels.shape[1]


def _order_of_sets(scores: Metrics) -> tuple[float, ...]:
    assert isinstance(scores, MultiLabelMetrics), "scores of several labels"
    return scores.micro_f1, -scores.log_loss


SINGLE_LABEL = Task(
    name="single_label",
    problem_type="single_label_classification",
    probabilities=softmax,
    loss=_cross_entropy,
    fit_thresholds=lambda labels, probabilities: None,
    decide=lambda probabilities, thresholds: probabilities.argmax(axis=1),
    score=lambda labels, probabilities, thresholds: score(labels, probabilities),
    # More right answers; at a tie, the lower loss.
    order=lambda scores: (scores.accuracy, -scores.log_loss),
    scores=Metrics,
)
MULTI_LABEL = Task(
    name="multi_label",
    problem_type="multi_label_classification",
    probabilities=sigmoid,
    loss=_binary_cross_entropy,
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
)
TASKS: dict[TaskName, Task] = {task.name: task for task in (SINGLE_LABEL, MULTI_LABEL)}


def task_of(labels: NDArray[np.integer]) -> Task:
    """The task of labels, ``(N,)`` or ``(N, C)``."""
    return MULTI_LABEL if labels.ndim == 2 else SINGLE_LABEL
