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
    data: opt.RequiredData,
    out: Annotated[Path, typer.Option("--out", help="Output folder for the bundle.")],
    method: Annotated[str, typer.Option("--method", help="Method from `feathertune methods`, e.g. lora:r=4.")] = "lora",
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
    """Train one method, test it, and write a bundle for predict, evaluate, serve and plain PEFT.

    To continue a stopped training, repeat the command with --resume.
    """
    given = locals() | shared
    one_method(method)  # refuse an unknown method before loading torch
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
    if os.environ.get("RANK", "0") != "0":  # under torchrun, only the first process prints
        return
    if json:
        sys.stdout.write(jsonlib.dumps({name: m.model_dump() for name, m in scores.items()}, indent=1) + "\n")
        return
    options = " ".join(f'--{name.replace("_", "-")} "..."' for name in Pair._fields[: len(read_info(out).text_columns)])
    sys.stdout.write(metrics_text(scores) if scores else "No validation or test rows to score on.\n")
    sys.stdout.write(f"\nBundle: {out}\nTry it: feathertune predict {out} {options}\n")
