"""Rows of the report's tables: one per method, and the scores of runs as cells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean

from feathertune.records import RunRecord, Scores, StudyRecord, SummaryRow
from feathertune.records.row_names import REFERENCE, base_of_row, method_of_row
from feathertune.report.drawing import svg
from feathertune.report.drawing.svg import Style
from feathertune.report.format import units
from feathertune.tasks import Column, Task
from feathertune.tasks.formats import SHARE, decimal

_LONGEST = 110
# Descriptions for records without one.
_KINDS = {
    "baseline": "baseline",
    "probe": "head on the frozen encoder",
    "peft": "few parameters trained",
    "full": "all parameters trained",
}


@dataclass(frozen=True)
class Limits:
    """Maximum number of items the report shows, and lengths in characters."""

    methods: int
    runs: int
    cards: int
    cells: int
    epochs: int
    labels: int
    examples: int
    text: int
    words: int


@dataclass(frozen=True)
class Method:
    """A row of the table: its record and its presentation."""

    row: SummaryRow
    style: Style
    description: str
    recommended: bool
    trained_share: float | None
    scores: tuple[float, ...]


MeanScores = tuple[Method, int, tuple[str, ...]]  # number of seeds, and cells in the order of the task's columns


def method_styles(summary: Sequence[SummaryRow]) -> dict[str, Style]:
    """Return a style per row: baselines grey and hollow, trained methods by colour, then by shape.

    Rows of one method share its colour; the second base and later ones take the next shapes.
    """
    bases = list(dict.fromkeys(base_of_row(row.method) for row in summary if base_of_row(row.method)))
    kinds = {method_of_row(row.method): row.kind in ("baseline", "probe") for row in summary}
    plain = [method for method, is_plain in kinds.items() if is_plain]
    trained = [method for method in kinds if method not in (*plain, REFERENCE)]
    styles: dict[str, Style] = {}
    for row in summary:
        method, base = method_of_row(row.method), base_of_row(row.method)
        if method in plain:
            colour, shape = "k0", plain.index(method)
        elif method == REFERENCE:
            colour, shape = "k7", svg.SHAPES.index("square")
        else:
            shape, place = divmod(trained.index(method), svg.N_COLOURS)
            colour = f"k{place + 1}"
        shape += bases.index(base) if base else 0
        styles[row.method] = Style(colour, svg.SHAPES[shape % len(svg.SHAPES)], hollow=method in plain)
    return styles


def method_rows(task: Task, study: StudyRecord, done: Sequence[RunRecord]) -> tuple[Method, ...]:
    """Return the rows, the best score first."""
    styles = method_styles(study.summary)
    methods = []
    for row in study.summary:
        runs = [run for run in done if run.method == row.method]
        share = None
        if runs and runs[0].total_parameters and row.trainable_parameters:
            share = row.trainable_parameters / runs[0].total_parameters
        methods.append(
            Method(
                row=row,
                style=styles[row.method],
                description=_description(study, row),
                recommended=row.method == study.verdict.recommended,
                trained_share=share,
                scores=tuple(task.primary.of(run.test) for run in runs if run.test is not None),
            )
        )
    return tuple(sorted(methods, key=lambda method: -method.row.score_mean))


def _description(study: StudyRecord, row: SummaryRow) -> str:
    said = re.split(r"[:;(]", study.descriptions.get(row.method, ""))[0].strip().rstrip(".")
    return units.clip(said, _LONGEST) if said else _KINDS[row.kind]


def recommended_first(
    methods: Sequence[Method], runs: Sequence[RunRecord], limits: Limits
) -> Iterator[tuple[Method, list[RunRecord]]]:
    """Yield methods with their runs, the recommended one first, skipping methods without any."""
    ordered = sorted(methods, key=lambda method: not method.recommended)
    with_runs = ((method, [run for run in runs if run.method == method.row.method]) for method in ordered)
    return islice((found for found in with_runs if found[1]), limits.cards)


def most_telling(methods: Sequence[Method], at_most: int) -> tuple[Method, ...]:
    """Return at most `at_most` methods, preferring the recommended one, baselines and full, then the best."""
    first = sorted(methods, key=lambda m: (not m.recommended, m.row.kind == "peft"))
    kept = {method.row.method for method in first[:at_most]}
    return tuple(method for method in methods if method.row.method in kept)


def cell(value: float | None, column: Column) -> str:
    """Return a run's score as a table cell."""
    return {"share": SHARE.finely, "unit": units.in_unit, "decimal": decimal}[column.text](value)


def run_cells(scores: Scores, task: Task) -> tuple[str, ...]:
    """Return all scores of one run, in the order of the task's columns."""
    return tuple(cell(getattr(scores, column.field), column) for column in task.columns)


def find_mean_scores(task: Task, methods: Sequence[Method], done: Sequence[RunRecord]) -> tuple[MeanScores, ...]:
    """Return each method's mean scores; none for tasks without this panel."""
    if "mean_scores" not in task.panels:
        return ()
    found = []
    for method in methods:
        tests = [run.test for run in done if run.method == method.row.method and run.test is not None]
        if tests:
            means = (cell(fmean(getattr(test, c.field) for test in tests), c) for c in task.columns)
            found.append((method, len(tests), tuple(means)))
    return tuple(found)
