"""``feathertune compare``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from feathertune.cli import options as opt
from feathertune.config import demonstration
from feathertune.track import choose_trackers, tracked


@opt.shared()
def compare(
    data: opt.Data = None,
    config: opt.ConfigFile = None,
    assignments: opt.Assignments = None,
    base: opt.Base = None,
    methods: Annotated[
        str | None,
        typer.Option("--methods", help="Methods to compare, e.g. lora,lora:r=2,lora+tfidf,full, or all."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", metavar="N", help="Number of seeds per method: 0 to N-1.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Study folder; by default under runs/.")] = None,
    *,
    track: opt.Track = None,
    overwrite: opt.Overwrite = False,
    json: opt.Json = False,
    dry_run: opt.DryRun = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
    **shared: Any,  # noqa: ANN401 - of the types that typer reads
) -> None:
    """Train several methods on your data and compare their scores and costs.

    Simple baselines and the untrained base model are always included. Without DATA, runs a demonstration of two
    minutes on sentences from film reviews. Repeat the command to continue a stopped study.
    """
    given = locals() | shared
    demo = data is None and config is None
    settings = opt.settings(given, defaults=demonstration(few_labels=shared["shots"] is not None) if demo else None)
    trackers = choose_trackers(track or ())
    # Loads torch, after wrong options have been reported.
    from feathertune.cli.output.progress import observe
    from feathertune.cli.output.tables import plan_json, plan_text, study_text
    from feathertune.study.compare import default_folder, keep_cost_estimate, prepare, run
    from feathertune.study.cost import estimate

    with observe(quiet=quiet or json) as observer:
        if demo:
            observer.stage(
                "no DATA given: running the demonstration on sample:rotten-tomatoes (pass DATA to use your own)"
            )
        prepared = prepare(settings, observer)
        if dry_run:
            cost = estimate(prepared, observer)
            if out is not None:
                keep_cost_estimate(cost, prepared, out)
        else:
            folder = out or default_folder(prepared.plan)
            command = ["feathertune", *sys.argv[1:]]
            with tracked(observer, trackers, folder, prepared.plan.config) as watched:
                study = run(prepared, folder, observer=watched, command=command, overwrite=overwrite)
    if dry_run:
        sys.stdout.write(plan_json(prepared, cost) if json else plan_text(prepared, out, cost))
        return
    sys.stdout.write(study.model_dump_json(indent=1) + "\n" if json else study_text(study, folder))
    failed = [record.id for record in study.runs if record.status == "failed"]
    if failed:
        again, runs = shlex.join(command), "run" if len(failed) == 1 else "runs"
        sys.stderr.write(f"feathertune: {len(failed)} {runs} failed: {', '.join(failed)}. To retry, run `{again}`.\n")
        raise typer.Exit(1)
