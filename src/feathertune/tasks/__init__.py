"""Tasks and scores: how a text's answer is decided, evaluated, ranked and described."""

from __future__ import annotations

from feathertune.records import Scores, StudyRecord, TaskName
from feathertune.tasks.multi_label import MULTI_LABEL, sigmoid
from feathertune.tasks.regression import REGRESSION
from feathertune.tasks.scores import Score
from feathertune.tasks.single_label import SINGLE_LABEL, softmax
from feathertune.tasks.task import Column, Labels, Task

__all__ = [
    "MULTI_LABEL",
    "REGRESSION",
    "SCORES",
    "SINGLE_LABEL",
    "TASKS",
    "Column",
    "Labels",
    "Score",
    "Task",
    "sigmoid",
    "softmax",
    "task_of",
    "task_of_scores",
    "task_of_study",
]

TASKS: dict[TaskName, Task] = {task.name: task for task in (SINGLE_LABEL, MULTI_LABEL, REGRESSION)}
# By name; a name has one format in all tasks.
SCORES: dict[str, Score] = {score.name: score for task in reversed(TASKS.values()) for score in task.scores}


def task_of(labels: Labels) -> Task:
    """Return the task of labels: ``(N,)`` integers or floats, or ``(N, C)``."""
    if labels.ndim == 2:
        return MULTI_LABEL
    return REGRESSION if labels.dtype.kind == "f" else SINGLE_LABEL


def task_of_scores(scores: Scores) -> Task:
    """Return the task whose runs have such scores."""
    return next(task for task in TASKS.values() if type(scores) is task.record)


def task_of_study(study: StudyRecord) -> Task:
    """Return the task of a study, with its primary score."""
    return TASKS[study.data.task].ranked_by(study.metric)
