"""``feathertune inspect``."""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from feathertune.cli import options as opt
from feathertune.methods import choose_methods
from feathertune.records.cost_estimate import CostEstimate

if TYPE_CHECKING:
    from feathertune.quality.fix import Fixed


@opt.shared(without=("shots", "long", "class_weights", "metric", "search", "merge_labels", "runner", "ray_address"))
def inspect(
    data: opt.RequiredData,
    config: opt.ConfigFile = None,
    assignments: opt.Assignments = None,
    base: opt.Base = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Output folder for inspection.html, findings.csv and inspection.json."),
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option(
            "--fix",
            metavar="FILE",
            help="Write a cleaned copy of DATA and a list of the changes.",
        ),
    ] = None,
    methods: Annotated[
        str | None, typer.Option("--methods", help="Also estimate the cost of comparing these methods, e.g. lora,full.")
    ] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", help="Seeds per method for the cost estimate.")] = None,
    *,
    overwrite: opt.Overwrite = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
    **shared: Any,  # noqa: ANN401 - of the types that typer reads
) -> None:
    """Profile the data and flag likely problems, with their rows.

    Reports classes, text lengths and truncation, duplicates and near-duplicates, contradictory labels, overlap between
    splits, likely mislabelled rows, and odd characters. Writes files only with --out or --fix.
    """
    given = locals() | shared
    settings = opt.settings(given)
    if methods is not None:
        # Refuse an unknown method before reading data. These imports take seconds, so they happen only if needed.
        choose_methods(settings.study.methods, settings.method, learning_rate=None)
        from feathertune.study.compare import prepare
        from feathertune.study.cost import estimate

    from feathertune.cli.output.progress import observe
    from feathertune.cli.output.quality_tables import INSPECTION, fixed_lines, inspection_text, write_folder
    from feathertune.cli.output.tables import cost_lines, render
    from feathertune.output_folder import check_place
    from feathertune.quality.fix import check_output, write_fixed
    from feathertune.quality.inspection import inspect_data

    if out is not None:
        check_place(out, INSPECTION, overwrite=overwrite)
    if fix is not None:
        check_output(data, fix, overwrite=overwrite)
    cost: CostEstimate | None = None
    fixed: Fixed | None = None
    with observe(quiet=quiet or json) as observer:
        inspected = inspect_data(settings, observer)
        found = inspected.record
        if out is not None:
            write_folder(inspected, out, overwrite=overwrite)
        if fix is not None:
            observer.stage(f"writing {fix}")
            fixed = write_fixed(inspected.scan, fix, overwrite=overwrite)
        if methods is not None and found.refused is None:
            prepared = prepare(settings, observer)
            cost = estimate(prepared, observer)
    if json:
        more = {} if cost is None else {"cost_estimate": cost.model_dump(mode="json")}
        more |= {} if fixed is None else {"fixed": fixed.as_json()}
        sys.stdout.write(jsonlib.dumps({**found.model_dump(mode="json"), **more}, indent=1) + "\n")
        return
    sys.stdout.write(inspection_text(found, out))
    if fixed is not None:
        sys.stdout.write(render("", *fixed_lines(fixed)))
    if cost is not None:
        sys.stdout.write(render("", *cost_lines(cost)))
