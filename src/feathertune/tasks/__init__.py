"""Tasks as values: what a label is, and everything that follows from it."""

from feathertune.tasks.task import MULTI_LABEL, REGRESSION, SINGLE_LABEL, TASKS, Labels, Task, sigmoid, softmax, task_of

__all__ = ["MULTI_LABEL", "REGRESSION", "SINGLE_LABEL", "TASKS", "Labels", "Task", "sigmoid", "softmax", "task_of"]
