"""``feathertune train``."""

from __future__ import annotations

import json as jsonlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from feathertune.cli import options as opt
from feathertune.methods import one_method
from feathertune.track import choose_trackers, tracked


@opt.shared(without=("shots", "metric", "train_sizes", "search", "runner", "ray_address"))
def train(
    data: Annotated[str, typer.Argument(metavar="DATA", help="As in `feathertune compare`.")],
    out: Annotated[Path, typer.Option("--out", help="Where the bundle shall be.")],
    method: Annotated[str, typer.Option("--method", help="One of `feathertune methods`.")] = "lora",
    config: opt.ConfigFile = None,
    assignments: opt.Assignments = None,
    base: opt.Base = None,
    *,
    track: opt.Track = None,
    overwrite: opt.Overwrite = False,
    resume: opt.Resume = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
    **shared: Any,  # noqa: ANN401 - of the types that typer reads
) -> None:
    """Train one method once, test it, and write a bundle that predict, evaluate and plain PEFT load.

    Killed at any moment, it goes on from its last checkpoint when the same command is given with --resume.
    """
    given = locals() | shared
    one_method(method)  # an unknown one is told before torch is loaded
    settings = opt.settings(given)
    trackers = choose_trackers(track or ())
    from feathertune.bundle.files import read_info
    from feathertune.cli.output.progress import observe
    from feathertune.cli.output.tables import metrics_text
    from feathertune.data.reading.texts import Pair
    from feathertune.study.finetune import finetune

    with observe(quiet=quiet or json) as observer, tracked(observer, trackers, out, settings, beside=True) as watched:
        scores = finetune(
            settings, method, out, seed=shared["seed"] or 0, observer=watched, overwrite=overwrite, resume=resume
        )
    if os.environ.get("RANK", "0") != "0":  # of several processes under torchrun, the first speaks
        return
    if json:
        sys.stdout.write(jsonlib.dumps({name: m.model_dump() for name, m in scores.items()}, indent=1) + "\n")
        return
    options = " ".join(f'--{name.replace("_", "-")} "..."' for name in Pair._fields[: len(read_info(out).text_columns)])
    sys.stdout.write(metrics_text(scores) if scores else "No rows were kept to score it on.\n")
    sys.stdout.write(f"\nBundle: {out}\nTry it: feathertune predict {out} {options}\n")
