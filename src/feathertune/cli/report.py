"""``feathertune report``: the report of one study, or a comparison of two, from their records alone. Loads no torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from feathertune.cli import options as opt
from feathertune.cli.output.tables import study_text
from feathertune.errors import ConfigError


def report(
    study: Annotated[Path, typer.Argument(metavar="STUDY_DIR", help="The --out of `feathertune compare`.")],
    other: Annotated[
        Path | None, typer.Argument(metavar="OTHER_DIR", help="Another study, to be compared with the first.")
    ] = None,
    table: Annotated[
        str | None, typer.Option("--table", metavar="FORM", help="Only export the table: csv, md or latex.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", help="Where the table goes; stdout by default.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where the comparison goes; OTHER_DIR/comparison.html by default.")
    ] = None,
    overwrite: opt.Overwrite = False,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Draw the report of a study again, or export its table, or compare it with another one; all from records alone.

    Of two studies it says in what they differ and what each method gives in both: paired by test row where they were
    tested on the same rows, else with intervals alone.
    """
    _check(other, table=table, output=output, out=out, json=json)
    if table is not None:
        _export(study, table, output, overwrite=overwrite)
    elif other is not None:
        _compare(study, other, out, overwrite=overwrite, json=json)
    else:
        _redraw(study, json=json)


def _check(other: Path | None, *, table: str | None, output: Path | None, out: Path | None, json: bool) -> None:
    if table is not None and json:
        raise ConfigError(f"Both --table {table} and --json were given. Expected one of them.")
    if table is not None and other is not None:
        raise ConfigError(f"--table {table} exports the table of one study, and two were given. Expected one.")
    if table is None and output is not None:
        raise ConfigError(f"--output {output} is where a table goes. Give --table csv, md or latex, too.")
    if other is None and out is not None:
        raise ConfigError(
            f"--out {out} is where a comparison goes, and one study was given. Expected two; report.html of one lies "
            "in its folder."
        )


def _redraw(study: Path, *, json: bool) -> None:
    from feathertune.records import load_study
    from feathertune.report import render_report

    record = load_study(study)
    render_report(study)
    sys.stdout.write(record.model_dump_json(indent=1) + "\n" if json else study_text(record, study))


def _export(study: Path, form: str, output: Path | None, *, overwrite: bool) -> None:
    from feathertune.output_folder import write_output
    from feathertune.records import load_study
    from feathertune.report.tables import export_table

    text = export_table(load_study(study), form)
    if output is None:
        sys.stdout.write(text)
        return
    write_output(output, text, option="--output", overwrite=overwrite)
    sys.stderr.write(f"The table was written to {output}\n")


def _compare(first: Path, second: Path, out: Path | None, *, overwrite: bool, json: bool) -> None:
    from feathertune.cli.output.comparison import comparison_text
    from feathertune.output_folder import write_output
    from feathertune.report.comparison import COMPARISON_FILE, draw_comparison
    from feathertune.study.versus import compare_studies

    comparison = compare_studies(first, second)
    page = out or second / COMPARISON_FILE
    # In the study's own folder it is drawn anew each time, as its report is.
    write_output(page, draw_comparison(comparison), option="--out", overwrite=overwrite or out is None)
    sys.stdout.write(comparison.model_dump_json(indent=1) + "\n" if json else comparison_text(comparison, page))
