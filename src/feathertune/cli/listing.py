"""``feathertune methods`` and ``feathertune report``: what there is, and a study drawn again. No torch."""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from feathertune.cli import options as opt
from feathertune.cli.tables import methods_text, study_text
from feathertune.methods import BASELINES, METHODS


def methods(json: opt.Json = False) -> None:
    """List the methods and baselines, with sources."""
    if json:
        rows = [{"name": m.name, "kind": m.kind, "summary": m.summary, "source": m.source} for m in METHODS]
        rows += [{"name": b.name, "kind": b.kind, "summary": b.summary, "source": b.source} for b in BASELINES]
        sys.stdout.write(jsonlib.dumps(rows, indent=1) + "\n")
        return
    sys.stdout.write(methods_text())


def report(
    study: Annotated[Path, typer.Argument(metavar="STUDY_DIR", help="The --out of `feathertune compare`.")],
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Draw the report of a study again, from its records."""
    from feathertune.records import load_study
    from feathertune.report import render_report

    record = load_study(study)
    render_report(study)
    sys.stdout.write(record.model_dump_json(indent=1) + "\n" if json else study_text(record, study))
