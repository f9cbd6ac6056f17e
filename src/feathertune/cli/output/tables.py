"""What the commands print on stdout: the table of a study, a plan, scores, predictions."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from feathertune.records import (
    METRIC_TITLES,
    TRAINED_KINDS,
    MultiLabelMetrics,
    NumberMetrics,
    Scores,
    StudyRecord,
    at_largest_size,
)
from feathertune.report import REPORT_FILE
from feathertune.report.format import units
from feathertune.report.format.scores import saying
from feathertune.report.panels.label_curve import sentence, sizes_of
from feathertune.report.panels.lengths import bucket_name
from feathertune.report.panels.searches import searches

_PIPE_WIDTH = 130
_ANY_WIDTH = 10_000
# Columns whose cells are one word, or mean nothing in pieces.
_WHOLE = ("method", *METRIC_TITLES.values(), "name", "kind", "size option", "source", "run", "module", "shape")


# Scores in the labels' unit: of any size.
_IN_UNIT = ("MAE", "RMSE")
# A head that would take the room of two columns of numbers.
_IN_TWO_LINES = {"balanced accuracy": "balanced\naccuracy", "rank correlation": "rank\ncorrelation"}


def width() -> int:
    """Columns that there are: the terminal's, or a fixed number into a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPE_WIDTH


def render(*parts: RenderableType) -> str:
    """Lay out for the terminal, or, into a pipe, for a fixed width and without colour."""
    terminal = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width(), highlight=False)
    for part in parts:
        console.print(part, markup=False) if isinstance(part, str) else console.print(part)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def study_text(study: StudyRecord, folder: Path) -> str:
    """The table of a study, the verdict, and where the report is."""
    say = saying(study.metric)
    summary = at_largest_size(study.summary)
    names = [Text(row.method + (f" ({row.n_seeds} seeds)" if row.n_seeds > 1 else "")) for row in summary]
    gives = {
        study.score_name: [say.score(row.score_mean) for row in summary],
        "95 % interval": [say.interval(row.score_low, row.score_high) for row in summary],
        "vs full": [say.difference(row.delta_vs_full) for row in summary],
    }
    costs = {
        "trained": [units.count(row.trainable_parameters) for row in summary],
        "ships": [units.size(row.adapter_bytes) for row in summary],
        "time": [units.seconds(row.seconds_mean) for row in summary],
        "speed": [units.times(row.speedup_vs_full) if row.kind in TRAINED_KINDS else units.DASH for row in summary],
        "memory": [units.size(row.memory_mean_bytes) for row in summary],
    }
    failed = [Text(f"failed: {run.id}: {run.error}") for run in study.runs if run.status == "failed"]
    data = study.data
    facts = f"{data.source}: {data.rows_in_words()}; {data.long_texts()}"
    if "train" in data.numbers:
        facts += f"; labels {data.numbers['train'].in_words()}"
    budget = budget_lines(study.parameter_budget, study.off_budget)
    missing = len(study.planned_runs) - len(study.runs)
    state = [f"\n{missing} of {len(study.planned_runs)} runs are still to be done."] if missing else []
    return render(
        "",
        *side_by_side(names, gives, costs),
        facts + ".",
        *failed,
        *left_out_lines(study.left_out),
        *budget,
        *_searches(study),
        *_estimated(study),
        "",
        study.verdict.text,
        *(f"- {caveat}" for caveat in study.verdict.caveats),
        *_by_length(study),
        *_label_curve(study),
        *state,
        f"\nReport: {folder / REPORT_FILE}",
    )


def _searches(study: StudyRecord) -> list[RenderableType]:
    """What searches have found."""
    found = searches(study)
    if not found:
        return []
    sized = any(one.train_rows is not None for one in found)
    table = table_of("found by search", *(("training rows",) if sized else ()), "validation", "after", "options")
    for one in found:
        n_rows = ("" if one.train_rows is None else f"{one.train_rows:,}",) if sized else ()
        scores = map(saying(study.metric).score, (one.before, one.after))
        table.add_row(Text(one.method), *n_rows, *scores, Text(one.found))
    return ["", table]


def _estimated(study: StudyRecord) -> list[RenderableType]:
    """Return estimated and actual costs, if there was an estimate."""
    rows = [row for row in at_largest_size(study.summary) if row.predicted_seconds is not None]
    if not rows:
        return []
    table = table_of("method", "estimated time", "actual time", "estimated memory", "actual memory")
    for row in rows:
        said = (row.predicted_seconds, row.seconds_mean)
        memory = (row.predicted_memory_bytes, row.memory_mean_bytes)
        table.add_row(Text(row.method), *map(units.seconds, said), *map(units.size, memory))
    return ["", table]


def _by_length(study: StudyRecord) -> list[RenderableType]:
    """The leading score by length of the texts, where some do not fit."""
    if len(study.by_length) < 2 or study.data.truncated_fraction == 0:
        return []
    table = table_of("tokens of the text", *map(bucket_name, study.by_length))
    table.add_row("test rows", *(f"{bucket.n:,}" for bucket in study.by_length))
    table.add_row("never read", *(units.percent(bucket.unread_fraction) for bucket in study.by_length))
    for row in at_largest_size(study.summary):
        scores = [one.score for bucket in study.by_length for one in bucket.scores if one.method == row.method]
        table.add_row(Text(row.method), *map(saying(study.metric).score, scores))
    return ["", table]


def _label_curve(study: StudyRecord) -> list[RenderableType]:
    """The leading score by training rows, and what more of them would buy."""
    sizes = sizes_of(study)
    if not sizes:
        return []
    table = table_of("training rows", *(f"{size:,}" for size in sizes))
    found, say = {(row.method, row.train_rows): row for row in study.summary}, saying(study.metric)
    for method in dict.fromkeys(row.method for row in study.summary if row.train_rows is not None):
        points = [found.get((method, size)) for size in sizes]
        said = [
            units.DASH
            if point is None
            else f"{say.score(point.score_mean)} ({say.interval(point.score_low, point.score_high)})"
            for point in points
        ]
        table.add_row(Text(method), *said)
    return ["", table, *(Text(f"- {sentence(more, say)}") for more in study.more_labels)]


def left_out_lines(left_out: Mapping[str, str]) -> list[Text]:
    """Which methods ``all`` did not stand for, and why."""
    return [Text(f"left out: {name}: {why}") for name, why in left_out.items()]


def budget_lines(budget: int | None, off_budget: Mapping[str, str]) -> list[Text]:
    """What the methods were sized to, and which of them are not near it."""
    if budget is None:
        return []
    return [
        Text(f"sized to train {budget:,} parameters of the encoder each; the head comes on top"),
        *(Text(f"off that: {name} {words}") for name, words in off_budget.items()),
    ]


def metrics_text(scores: Mapping[str, Scores]) -> str:
    """Scores of one or several sets of rows."""
    rows = {name: _named_scores(metrics) for name, metrics in scores.items()}
    table = table_of("rows", "n", *next(iter(rows.values())))
    for name, values in rows.items():
        table.add_row(Text(name), f"{scores[name].n:,}", *(_exactly(score, value) for score, value in values.items()))
    return render(table)


def _exactly(score: str, value: float) -> str:
    return units.in_unit(value) if score in _IN_UNIT else f"{value:.4f}"


def _named_scores(m: Scores) -> dict[str, float]:
    if isinstance(m, NumberMetrics):
        near = {"Pearson": m.pearson, "R2": m.r2, **dict(zip(_IN_UNIT, (m.mae, m.rmse), strict=True))}
        return {METRIC_TITLES["regression", "spearman"]: m.spearman, **near}
    if isinstance(m, MultiLabelMetrics):
        f1 = {"micro F1": m.micro_f1, "macro F1": m.macro_f1, "LRAP": m.lrap, "mAP": m.mean_average_precision}
        return {METRIC_TITLES["multi_label", "accuracy"]: m.accuracy, **f1, "log loss": m.log_loss}
    balanced = {} if m.balanced_accuracy is None else {"balanced accuracy": m.balanced_accuracy}
    f1 = {**balanced, "macro F1": m.macro_f1, "MCC": m.mcc}
    return {METRIC_TITLES["single_label", "accuracy"]: m.accuracy, **f1, "log loss": m.log_loss, "ECE": m.ece}


def predictions_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Predicted rows as a table: label, its probability, the beginning of the text (or of both of a pair).

    A number has no probability.
    """
    table = table_of("label", "probability", "text")
    for row in rows:
        labels = row["labels"] if "labels" in row else [row["label"]]
        parts = [units.clip(" ".join(str(row[column]).split()), 90 // len(columns)) for column in columns]
        is_number = "probabilities" not in row
        table.add_row(
            f"{row['label']:.6g}" if is_number else Text(", ".join(labels) or units.DASH),
            units.DASH if is_number else ", ".join(f"{row['probabilities'][label]:.3f}" for label in labels),
            Text(units.BETWEEN.join(parts)),
        )
    return render(table)


def side_by_side(methods: Sequence[Text], *groups: Mapping[str, Sequence[str]]) -> list[RenderableType]:
    """Groups of columns beside the methods in one table; where the terminal is too narrow, a table for each group.

    Numbers that are cut at the end of a line are wrong numbers.
    """
    one = _beside(methods, *groups)
    if Console(width=_ANY_WIDTH).measure(one).maximum <= width():
        return [one]
    parts: list[RenderableType] = []
    for group in groups:
        parts += [*([""] if parts else []), _beside(methods, group)]
    return parts


def _beside(methods: Sequence[Text], *groups: Mapping[str, Sequence[str]]) -> Table:
    columns = {name: cells for group in groups for name, cells in group.items()}
    table = table_of("method", *columns)
    for method, *cells in zip(methods, *columns.values(), strict=True):
        table.add_row(method, *cells)
    return table


def table_of(*columns: str) -> Table:
    """An empty table; columns of numbers stand right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    text = {"method", "what it does", "source", "options", "run", "kind", "name", "rows", "label", "text"}
    text |= {"option", "default", "here", "module", "trains", "size option", "merges"}
    text |= {"tokens a text", "--max-length", "training rows", "found by search", "finding"}
    text |= {"tokens of the text"}
    for column in columns:
        head = _IN_TWO_LINES.get(column, column)
        table.add_column(head, justify="left" if column in text else "right", no_wrap=column in _WHOLE)
    return table
