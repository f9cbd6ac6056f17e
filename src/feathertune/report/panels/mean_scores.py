"""All scores of each method as means over its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from feathertune.records import RunRecord, Scores
from feathertune.report.format import units
from feathertune.report.rows import Method
from feathertune.tasks import Column, Task
from feathertune.tasks.formats import SHARE, decimal

MeanScores = tuple[Method, int, tuple[str, ...]]  # number of seeds, and cells in the order of the task's columns


def cell(value: float | None, column: Column) -> str:
    """Return a score of a run as a cell of a table."""
    return {"share": SHARE.finely, "unit": units.in_unit, "decimal": decimal}[column.text](value)


def run_cells(scores: Scores, task: Task) -> tuple[str, ...]:
    """Return all scores of one run, in the order of the task's columns."""
    return tuple(cell(getattr(scores, column.field), column) for column in task.columns)


def find_mean_scores(task: Task, methods: Sequence[Method], done: Sequence[RunRecord]) -> tuple[MeanScores, ...]:
    """Return the means of each method; none for tasks without this panel."""
    if "mean_scores" not in task.panels:
        return ()
    found = []
    for method in methods:
        tests = [run.test for run in done if run.method == method.row.method and run.test is not None]
        if tests:
            means = (cell(fmean(getattr(test, c.field) for test in tests), c) for c in task.columns)
            found.append((method, len(tests), tuple(means)))
    return tuple(found)
