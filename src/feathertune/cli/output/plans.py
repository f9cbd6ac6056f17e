"""What a study would do and what it would cost, as it is printed before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from feathertune.cli.output.tables import budget_lines, left_out_lines, render, table_of
from feathertune.records.cost_estimate import Price
from feathertune.report.format import units

if TYPE_CHECKING:
    from feathertune.records import DataRecord
    from feathertune.study.prepared import Prepared


def plan_text(prepared: Prepared, folder: Path | None, price: Price) -> str:
    """What a study would do, and its price; `folder` is where the price was kept."""
    data, base, config = prepared.bench.data, prepared.bench.base, prepared.plan.config
    runs = table_of("run", "kind", "seed", "trains", "options")
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
        *price_lines(price),
        "",
        _kept(folder),
    )


def _labels(data: DataRecord) -> list[str]:
    """How many rows each class has, or how numbers lie, split by split."""
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
        return (
            "Nothing was started or written. With --out the price is kept, and the study there records what came true."
        )
    return f"Nothing was started. The price is kept in {folder}: the study there records what came true."


def price_lines(price: Price) -> list[RenderableType]:
    """The price of a study as a table, and in a sentence."""
    sized = any(row.train_rows is not None for row in price.rows)
    rows_column = ("training rows",) if sized else ()
    table = table_of("method", *rows_column, "a run", "before training", "training", "test rows", "memory", "runs")
    for row in price.rows:
        took = row.seconds
        n_rows = ("" if row.train_rows is None else f"{row.train_rows:,}",) if sized else ()
        if took is None:
            table.add_row(row.method, *n_rows, *[units.DASH] * 5, str(row.n_runs))
            continue
        table.add_row(
            row.method,
            *n_rows,
            units.seconds(took.total),
            units.seconds(took.total - took.train - took.evaluate),
            units.seconds(took.train),
            units.seconds(took.evaluate),
            units.size(row.memory_bytes),
            str(row.n_runs),
        )
    n_runs = sum(row.n_runs for row in price.rows)
    return [
        table,
        *(Text(f"{row.method} broke when it was tried: {row.error}") for row in price.rows if row.error is not None),
        *(Text(f"{row.method}: {note}") for row in price.rows for note in row.notes),
        f"All {n_runs} runs together: about {units.seconds(price.study_seconds)}. What runs share is in the price of "
        f"each, and there once. All epochs are counted: an early stop takes less. Measured in "
        f"{units.seconds(price.measured_seconds)}.",
    ]


def priced_plan_json(prepared: Prepared, price: Price) -> str:
    """The plan with its price, as JSON."""
    both = {**prepared.plan.model_dump(mode="json"), "price": price.model_dump(mode="json")}
    return json.dumps(both, indent=1) + "\n"
