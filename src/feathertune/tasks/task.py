"""Tasks: one label, a set of labels, or a number per text, and everything that depends on it.

The shape and type of labels identify the task: class indices ``(N,)`` int; ``(N, C)`` of 0 and 1; numbers ``(N,)``
float.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from feathertune.errors import ConfigError
from feathertune.records import Calibration, Caveat, Scores, TaskName
from feathertune.tasks.calibration import Likelihood
from feathertune.tasks.cards import LABEL_CARD, LABEL_CODE, CardText, PlainCode
from feathertune.tasks.labels.kind import LabelKind
from feathertune.tasks.linear_models import LinearModels
from feathertune.tasks.mislabelled import Mislabelled, RunOpinion
from feathertune.tasks.scores import Score

# Arrays of any task.
Labels = NDArray[Any]
Probabilities = NDArray[np.floating]
Thresholds = NDArray[np.float64] | None


@dataclass(frozen=True)
class Column:
    """A score of single runs in the report's tables; `unit` is the labels' own, and a `note` goes below the table."""

    field: str
    title: str
    text: Literal["share", "decimal", "unit"] = "decimal"
    note: str = ""


@dataclass(frozen=True)
class Wording:
    """Words that depend on the task; `constant` is the baseline `majority`'s answer, `decision` a row of a table."""

    answer: str
    constant: str
    constant_line: str
    linear_model: str
    mislabelled: str
    decision: str = "rows"


@dataclass(frozen=True)
class Task:
    """A task and everything that depends on it.

    Attributes:
        problem_type: transformers' name for the task, by which a model chooses its loss.
        scores: Scores that can rank methods; `primary` is the one that does.
        choose: Maps the training rows per class to the score that ``auto`` means.
        probabilities: Maps logits ``(N, C)`` to ``(N, C)`` float64; for numbers, C is 1 and this is the number itself.
        fit_thresholds: Maps labels and probabilities of validation rows to thresholds ``(C,)``, or None.
        decide: Maps probabilities and thresholds to predictions, of the shape of labels.
        evaluate: Maps labels, probabilities and thresholds to all scores.
        order: Maps validation scores to a key that is larger for the better epoch.
        calibrate: Maps labels and probabilities of validation rows and of test rows, and decisions on the latter, to
            a calibration; None for a task without probabilities.
        temper: Maps probabilities and a temperature to calibrated probabilities.
        find_mislabelled: Maps labels and the trained runs' opinions to labels that are likely wrong.
        is_constant: Maps test scores and test rows per class to True if the scores are those of one constant answer.
        caveats: Maps the recommended method and its test scores to caveats.
        fit_moved: Like `fit_thresholds`, under ``train.decision: moved``, which also ranks epochs by `order_moved`.
    """

    name: TaskName
    labels: LabelKind
    problem_type: str
    scores: tuple[Score, ...]
    primary: Score
    choose: Callable[[Sequence[int]], Score]
    record: type[Scores]
    probabilities: Callable[[Probabilities], NDArray[np.float64]]
    fit_thresholds: Callable[[Labels, Probabilities], Thresholds]
    decide: Callable[[Probabilities, Thresholds], Labels]
    evaluate: Callable[[Labels, Probabilities, Thresholds], Scores]
    likelihood: Likelihood
    linear: LinearModels
    order: Callable[[Scores], tuple[float, ...]]
    is_constant: Callable[[Scores, Sequence[int]], bool]
    columns: tuple[Column, ...]
    panels: frozenset[str]
    words: Wording
    card: CardText = LABEL_CARD
    code: PlainCode = LABEL_CODE
    default_threshold: float | None = None
    caveats: Callable[[str, Sequence[Scores]], list[Caveat]] = lambda method, tests: []
    calibrate: Callable[[Labels, Probabilities, Labels, Probabilities, Labels], Calibration] | None = None
    temper: Callable[[Probabilities, float], NDArray[np.float64]] | None = None
    find_mislabelled: Callable[[Labels, Sequence[RunOpinion]], list[Mislabelled]] | None = None
    fit_moved: Callable[[Labels, Probabilities], Thresholds] | None = None
    order_moved: Callable[[Scores], tuple[float, ...]] | None = None

    @property
    def numbers(self) -> bool:
        """True if labels are numbers."""
        return self.labels.numbers

    def score_named(self, name: str) -> Score:
        """Return one of the scores; raise a `ConfigError` if the task has no such score."""
        for score in self.scores:
            if score.name == name:
                return score
        names = ", ".join(("auto", *(score.name for score in self.scores)))
        raise ConfigError(
            f"study.metric is {name}, but {self.words.answer} (data.task: {self.name}). Expected one of: {names}."
        )

    def ranked_by(self, wanted: str, counts: Sequence[int] = ()) -> Task:
        """Return the task with the primary score `wanted` (or ``auto``); epochs are chosen by it, then by loss."""
        score = self.choose(counts) if wanted == "auto" else self.score_named(wanted)
        if score is self.primary:
            return self
        return replace(self, primary=score, order=lambda scores: (score.of(scores), -scores.loss))

    def deciding(self, decision: Literal["largest", "moved"]) -> Task:
        """Return the task under ``train.decision``; a task that always fits thresholds stays the same."""
        if decision == "largest" or self.fit_moved is None or self.order_moved is None:
            return self
        return replace(self, fit_thresholds=self.fit_moved, order=self.order_moved)

    def default_thresholds(self, n_labels: int) -> list[float] | None:
        """Return the thresholds of a bundle that has none."""
        return None if self.default_threshold is None else [self.default_threshold] * n_labels

    def evaluate_fitted(self, labels: Labels, probabilities: Probabilities) -> Scores:
        """Return the scores of validation rows with thresholds fitted on the same rows."""
        return self.evaluate(labels, probabilities, self.fit_thresholds(labels, probabilities))
