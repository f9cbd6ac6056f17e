"""Tables on stdout: a plan with its cost estimate, a study, scores, predictions."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from feathertune.cli.output.terminal import PrintableConsole, printable
from feathertune.records import TRAINED_KINDS, BaseRecord, DataRecord, Scores, StudyRecord, at_largest_size
from feathertune.records.cost_estimate import CostEstimate
from feathertune.records.row_names import base_of_row, method_of_row
from feathertune.report import REPORT_FILE
from feathertune.report.format import units
from feathertune.report.panels.curves import bucket_name, sentence, sizes_of
from feathertune.report.panels.searches import searches
from feathertune.report.rows import run_cells
from feathertune.report.wording import MOST_CAVEATS, caveat_texts, verdict_text
from feathertune.tasks import task_of_scores, task_of_study

if TYPE_CHECKING:
    from feathertune.study.running.workbench import Prepared

_PIPE_WIDTH = 130
# A study's output is copied into issues and documents, so in a pipe it fits the usual terminal.
_STUDY_PIPE_WIDTH = 80
_ANY_WIDTH = 10_000
# A longer head of a whole column takes two lines.
_LONG_HEAD = 12
# No-break spaces keep a number and its unit on one line; some terminals draw them too narrow for aligned columns.
_SPACES = str.maketrans("\u00a0\u202f", "  ")


@dataclass(frozen=True)
class Column:
    """A table column, right-aligned unless `left`; a `whole` cell stays on one line."""

    head: str
    left: bool = False
    whole: bool = False


METHOD = Column("method", left=True, whole=True)
_BASE = Column("base", left=True, whole=True)
TRAINING_ROWS = Column("training rows", left=True)


def row_heads(rows: Sequence[str]) -> tuple[list[Column], dict[str, list[Text]]]:
    """Return heads and cells for each row's method, and for its base model if there are several."""
    cells = {row: [Text(method_of_row(row))] for row in rows}
    if not any(map(base_of_row, rows)):
        return [METHOD], cells
    return [METHOD, _BASE], {row: [*found, Text(base_of_row(row) or "")] for row, found in cells.items()}


def table_of(*columns: Column | str) -> Table:
    """Return an empty table; a string stands for a column of numbers with that head."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for given in columns:
        column = Column(given) if isinstance(given, str) else given
        head = column.head.replace(" ", "\n", 1) if column.whole and len(column.head) > _LONG_HEAD else column.head
        table.add_column(head, justify="left" if column.left else "right", no_wrap=column.whole)
    return table


def width() -> int:
    """Return the terminal's width in characters, or a fixed width in a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPE_WIDTH


def study_width() -> int:
    """Return the width of a study's output: the terminal's, or 80 characters in a pipe."""
    return width() if sys.stdout.isatty() else _STUDY_PIPE_WIDTH


def render(*parts: RenderableType, columns: int | None = None) -> str:
    """Lay out for the terminal, or for a width of `columns`; without color in a pipe."""
    terminal = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    file = io.StringIO()
    console = PrintableConsole(file=file, force_terminal=terminal, width=columns or width(), highlight=False)
    for part in parts:
        console.print(part, markup=False) if isinstance(part, str) else console.print(part)
    return "\n".join(line.rstrip() for line in file.getvalue().translate(_SPACES).split("\n"))


def plan_text(prepared: Prepared, folder: Path | None, cost: CostEstimate) -> str:
    """Return the plan and the cost estimate as text; `folder` is where the estimate was saved."""
    data, config = prepared.bench.data, prepared.plan.config
    bases = [bench.base for bench in prepared.benches.values()]
    names = (Column("run", left=True, whole=True), Column("kind", left=True, whole=True))
    runs = table_of(*names, "seed", Column("trains", left=True), Column("options", left=True))
    for spec in prepared.plan.runs:
        options = ", ".join(f"{key}={value}" for key, value in spec.options.items())
        trains = "" if spec.trains is None else units.count(spec.trains)
        runs.add_row(spec.id, spec.kind, str(spec.seed), trains, Text(options))
    return render(
        f"data     {data.source}: {data.rows_in_words()}",
        *_labels(data),
        *(f"long     {_of_base(base, bases)}{data.long_texts(base)}" for base in bases),
        f"removed  {data.duplicates_removed:,} duplicates, {data.overlap_removed:,} rows repeated in a later split",
        *(f"note     {note}" for note in data.notes),
        *(
            f"base     {base.id}: {base.model_type}, {units.count(base.n_parameters)} parameters, "
            f"{base.n_layers} layers"
            for base in bases
        ),
        f"train    up to {config.train.epochs_on(data.n_train)} epochs, batch size {config.train.batch_size}, "
        f"{prepared.bench.runtime.dtype} ({prepared.bench.runtime.reason})",
        "",
        runs,
        *left_out_lines(prepared.plan.left_out),
        *budget_lines(prepared.plan.parameter_budget, prepared.plan.off_budget),
        "",
        *cost_lines(cost),
        "",
        _kept(folder),
    )


def _of_base(base: BaseRecord, bases: Sequence[BaseRecord]) -> str:
    return f"{base.name}: " if len(bases) > 1 else ""


def _labels(data: DataRecord) -> list[str]:
    if data.numbers:
        return [f"labels   {split}: {summary.in_words()}" for split, summary in data.numbers.items()]
    counts = "; ".join(
        f"{split} "
        + ", ".join(f"{label} {n:,}" for label, n in zip(data.labels, data.class_counts[split], strict=True))
        for split in data.class_counts
    )
    return [f"classes  {counts}"]


def _kept(folder: Path | None) -> str:
    if folder is None:
        return "Nothing was run or written. Pass --out to save the estimate and compare it with the actual cost."
    return f"Nothing was run. The cost estimate is in {folder}; a study there compares it with the actual cost."


def cost_lines(cost: CostEstimate) -> list[RenderableType]:
    """Return the cost estimate as a table and a summary."""
    head, sizes = _sizes([row.train_rows for row in cost.rows])
    heads, names = row_heads([row.method for row in cost.rows])
    table = table_of(*heads, *head, "per run", "before training", "training", "test rows", "memory", "runs")
    for row, n_rows in zip(cost.rows, sizes, strict=True):
        cells = [units.DASH] * 5
        if (took := row.seconds) is not None:
            parts = (took.total, took.total - took.train - took.evaluate, took.train, took.evaluate)
            cells = [*map(units.seconds, parts), units.size(row.memory_bytes)]
        table.add_row(*names[row.method], *n_rows, *cells, str(row.n_runs))
    return [
        table,
        *(Text(f"{row.method} failed in the pilot run: {row.error}") for row in cost.rows if row.error is not None),
        *(Text(f"{row.method}: {note}") for row in cost.rows for note in row.notes),
        f"All {sum(row.n_runs for row in cost.rows)} runs together: about {units.seconds(cost.study_seconds)}. Each "
        "row includes shared work, which this total counts once. Early stopping takes less. The estimate took "
        f"{units.seconds(cost.measured_seconds)}.",
    ]


def plan_json(prepared: Prepared, cost: CostEstimate) -> str:
    """Return the plan and its cost estimate as JSON."""
    both = {**prepared.plan.model_dump(mode="json"), "cost_estimate": cost.model_dump(mode="json")}
    return json.dumps(both, indent=1) + "\n"


def study_text(study: StudyRecord, folder: Path) -> str:
    """Return a study's table, its verdict with the most important caveats, and the path of its report."""
    columns = study_width()
    score = task_of_study(study).primary
    say = score.format
    summary = at_largest_size(study.summary)
    heads, cells = row_heads([row.method for row in summary])
    for row in summary:
        cells[row.method][0].append(f" ({row.n_seeds} seeds)" if row.n_seeds > 1 else "")
    names = {head: [cells[row.method][place] for row in summary] for place, head in enumerate(heads)}
    gives: dict[Column | str, list[str]] = {
        Column(score.title, whole=True): [say.score(row.score_mean) for row in summary],
        "95% CI": [say.interval(row.score_low, row.score_high) for row in summary],
        "vs full": [say.difference(row.delta_vs_full) for row in summary],
    }
    costs: dict[Column | str, list[str]] = {
        "trained": [units.count(row.trainable_parameters) for row in summary],
        "ships": [units.size(row.adapter_bytes) for row in summary],
        "time": [units.seconds(row.seconds_mean) for row in summary],
        "speed": [units.times(row.speedup_vs_full) if row.kind in TRAINED_KINDS else units.DASH for row in summary],
        "memory": [units.size(row.memory_mean_bytes) for row in summary],
    }
    failed = [Text(f"failed: {run.id}: {run.error}") for run in study.runs if run.status == "failed"]
    data = study.data
    long = (f"; {_of_base(base, study.bases)}{data.long_texts(base)}" for base in study.bases)
    facts = f"{data.source}: {data.rows_in_words()}{''.join(long)}"
    if "train" in data.numbers:
        facts += f"; labels {data.numbers['train'].in_words()}"
    budget = budget_lines(study.parameter_budget, study.off_budget)
    missing = len(study.planned_runs) - len(study.runs)
    state = [f"\n{missing} of {len(study.planned_runs)} runs are not finished."] if missing else []
    text = render(
        "",
        *side_by_side(names, gives, costs, columns=columns),
        "",
        facts + ".",
        *failed,
        *left_out_lines(study.left_out),
        *budget,
        *_searches(study),
        *_estimated(study),
        "",
        verdict_text(study),
        *_caveats(study),
        *(part for base in study.bases for part in _by_length(study, base)),
        *_label_curve(study),
        *state,
        columns=columns,
    )
    return text + printable(f"\nReport: {folder / REPORT_FILE}\n")  # a path is not wrapped


def _caveats(study: StudyRecord) -> list[RenderableType]:
    """Return the first caveats, which are the most important ones, and the number of the others."""
    caveats = caveat_texts(study)
    more = len(caveats) - MOST_CAVEATS
    items = [*caveats[:MOST_CAVEATS], *([f"{more} more in the report"] if more > 0 else [])]
    bullets = Table.grid(padding=(0, 1, 0, 0))
    for item in items:
        bullets.add_row("-", Text(item))
    return [bullets] if items else []


def _sizes(train_rows: Sequence[int | None]) -> tuple[list[Column], list[list[str]]]:
    """Return head and cells of the column of training rows; no column without a learning curve."""
    if set(train_rows) <= {None}:
        return [], [[] for _ in train_rows]
    return [TRAINING_ROWS], [["" if n is None else f"{n:,}"] for n in train_rows]


def _searches(study: StudyRecord) -> list[RenderableType]:
    found = searches(study)
    if not found:
        return []
    head, sizes = _sizes([one.train_rows for one in found])
    options = Column("options", left=True)
    (_, *base), names = row_heads([one.method for one in found])
    table = table_of(Column("found by search", left=True), *base, *head, "default score", "best score", options)
    for one, n_rows in zip(found, sizes, strict=True):
        scores = map(task_of_study(study).primary.format.score, (one.before, one.after))
        table.add_row(*names[one.method], *n_rows, *scores, Text(one.found))
    return ["", table]


def _estimated(study: StudyRecord) -> list[RenderableType]:
    rows = [row for row in at_largest_size(study.summary) if row.predicted_seconds is not None]
    if not rows:
        return []
    heads, names = row_heads([row.method for row in rows])
    table = table_of(*heads, "estimated time", "actual time", "estimated memory", "actual memory")
    for row in rows:
        said = (row.predicted_seconds, row.seconds_mean)
        memory = (row.predicted_memory_bytes, row.memory_mean_bytes)
        table.add_row(*names[row.method], *map(units.seconds, said), *map(units.size, memory))
    return ["", table]


def _by_length(study: StudyRecord, base: BaseRecord) -> list[RenderableType]:
    buckets = study.buckets_of(base)
    if len(buckets) < 2 or base.truncated_fraction == 0:
        return []
    of_base = f" ({base.name})" if len(study.bases) > 1 else ""
    table = table_of(Column(f"tokens per text{of_base}", left=True), *map(bucket_name, buckets))
    table.add_row("test rows", *(f"{bucket.n:,}" for bucket in buckets))
    table.add_row("unread tokens", *(units.percent(bucket.unread_fraction) for bucket in buckets))
    for row in at_largest_size(study.summary):
        scores = [one.score for bucket in buckets for one in bucket.scores if one.method == row.method]
        if scores:
            table.add_row(Text(method_of_row(row.method)), *map(task_of_study(study).primary.format.score, scores))
    return ["", table]


def _label_curve(study: StudyRecord) -> list[RenderableType]:
    sizes = sizes_of(study)
    if not sizes:
        return []
    rows = list(dict.fromkeys(row.method for row in study.summary if row.train_rows is not None))
    (_, *base), names = row_heads(rows)
    table = table_of(TRAINING_ROWS, *base, *(f"{size:,}" for size in sizes))
    found, say = {(row.method, row.train_rows): row for row in study.summary}, task_of_study(study).primary.format
    for method in rows:
        points = [found.get((method, size)) for size in sizes]
        said = [
            units.DASH
            if point is None
            else f"{say.score(point.score_mean)} ({say.interval(point.score_low, point.score_high)})"
            for point in points
        ]
        table.add_row(*names[method], *said)
    return ["", table, *(Text(f"- {sentence(more, say)}") for more in study.more_labels)]


def left_out_lines(left_out: Mapping[str, str]) -> list[Text]:
    """List the methods that ``all`` leaves out, and why."""
    return [Text(f"left out: {name}: {why}") for name, why in left_out.items()]


def budget_lines(budget: int | None, off_budget: Mapping[str, str]) -> list[Text]:
    """State the parameter budget, and the methods that miss it."""
    if budget is None:
        return []
    return [
        Text(f"parameter budget: {budget:,} per method, excluding the head"),
        *(Text(f"off budget: {name} {words}") for name, words in off_budget.items()),
    ]


def metrics_text(scores: Mapping[str, Scores]) -> str:
    """Return a table of scores, one row for each set of rows."""
    task = task_of_scores(next(iter(scores.values())))
    heads = [Column(column.title, whole=True) for column in task.columns]
    table = table_of(Column("rows", left=True), "n", *heads)
    for name, metrics in scores.items():
        table.add_row(Text(name), f"{metrics.n:,}", *run_cells(metrics, task))
    return render(table)


def predictions_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return predictions as a table: label, probability of a class, and the start of each text."""
    table = table_of(Column("label", left=True), "probability", Column("text", left=True))
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


def side_by_side(
    methods: Mapping[Column, Sequence[Text]], *groups: Mapping[Column | str, Sequence[str]], columns: int
) -> list[RenderableType]:
    """Return one table if it fits into `columns`, else one per group of columns; a group that is too wide is halved."""
    one = _table(methods, *groups)
    if Console(width=_ANY_WIDTH).measure(one).maximum <= columns:
        return [one]
    if len(groups) == 1:
        cells = list(groups[0].items())
        if len(cells) == 1:
            return [one]
        half = (len(cells) + 1) // 2
        groups = dict(cells[:half]), dict(cells[half:])
    parts: list[RenderableType] = []
    for group in groups:
        parts += [*([""] if parts else []), *side_by_side(methods, group, columns=columns)]
    return parts


def _table(methods: Mapping[Column, Sequence[Text]], *groups: Mapping[Column | str, Sequence[str]]) -> Table:
    columns = {name: cells for group in groups for name, cells in group.items()}
    table = table_of(*methods, *columns)
    for cells in zip(*methods.values(), *columns.values(), strict=True):
        table.add_row(*cells)
    return table
