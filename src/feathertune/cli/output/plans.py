"""Print the plan of a study and its cost estimate, before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from feathertune.cli.output.tables import METHOD, TRAINING_ROWS, Column, budget_lines, left_out_lines, render, table_of
from feathertune.records.cost_estimate import CostEstimate
from feathertune.report.format import units

if TYPE_CHECKING:
    from feathertune.records import DataRecord
    from feathertune.study.running.workbench import Prepared


def plan_text(prepared: Prepared, folder: Path | None, cost: CostEstimate) -> str:
    """Return the plan and the cost estimate, which is kept in `folder`, as text."""
    data, base, config = prepared.bench.data, prepared.bench.base, prepared.plan.config
    names = (Column("run", left=True, whole=True), Column("kind", left=True, whole=True))
    runs = table_of(*names, "seed", Column("trains", left=True), Column("options", left=True))
    for spec in prepared.plan.runs:
        options = ", ".join(f"{key}={value}" for key, value in spec.options.items())
        trains = "" if spec.trains is None else units.count(spec.trains)
        runs.add_row(spec.id, spec.kind, str(spec.seed), trains, Text(options))
    return render(
        f"data     {data.source}: {data.rows_in_words()}",
        *_labels(data),
        f"long     {data.long_texts()}",
        f"removed  {data.duplicates_removed:,} duplicates, {data.overlap_removed:,} rows that stood in a later split",
        *(f"note     {note}" for note in data.notes),
        f"base     {base.id}: {base.model_type}, {units.count(base.n_parameters)} parameters, {base.n_layers} layers",
        f"train    up to {config.train.epochs_on(data.n_train)} epochs, {config.train.batch_size} rows a step, "
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
        return "Nothing was started or written. Pass --out to keep the estimate and compare it with the actual costs."
    return f"Nothing was started. The cost estimate is in {folder}: the study there compares it with the actual costs."


def cost_lines(cost: CostEstimate) -> list[RenderableType]:
    """Return the cost estimate as a table and a summary."""
    sized = any(row.train_rows is not None for row in cost.rows)
    rows_column = (TRAINING_ROWS,) if sized else ()
    table = table_of(METHOD, *rows_column, "a run", "before training", "training", "test rows", "memory", "runs")
    for row in cost.rows:
        n_rows = ("" if row.train_rows is None else f"{row.train_rows:,}",) if sized else ()
        cells = [units.DASH] * 5
        if (took := row.seconds) is not None:
            parts = (took.total, took.total - took.train - took.evaluate, took.train, took.evaluate)
            cells = [*map(units.seconds, parts), units.size(row.memory_bytes)]
        table.add_row(row.method, *n_rows, *cells, str(row.n_runs))
    return [
        table,
        *(Text(f"{row.method} failed on the pilot: {row.error}") for row in cost.rows if row.error is not None),
        *(Text(f"{row.method}: {note}") for row in cost.rows for note in row.notes),
        f"All {sum(row.n_runs for row in cost.rows)} runs together: about {units.seconds(cost.study_seconds)}. Work "
        "that runs share is part of each row, and counted once here. An early stop takes less. Measured in "
        f"{units.seconds(cost.measured_seconds)}.",
    ]


def plan_json(prepared: Prepared, cost: CostEstimate) -> str:
    """Return the plan and its cost estimate as JSON."""
    both = {**prepared.plan.model_dump(mode="json"), "cost_estimate": cost.model_dump(mode="json")}
    return json.dumps(both, indent=1) + "\n"
