"""``feathertune report``: a study drawn again, from its records. No torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from feathertune.cli import options as opt
from feathertune.cli.tables import study_text


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
