"""``feathertune report``: the report of one study, or a comparison of two, from their records. Loads no torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from feathertune.cli import options as opt
from feathertune.errors import ConfigError


def report(
    study: Annotated[Path, typer.Argument(metavar="STUDY_DIR", help="Study folder, from `feathertune compare --out`.")],
    other: Annotated[
        Path | None, typer.Argument(metavar="OTHER_DIR", help="Second study, to compare with the first.")
    ] = None,
    table: Annotated[
        str | None, typer.Option("--table", metavar="FORM", help="Export only the table: csv, md or latex.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", help="Output file for the table; default stdout.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Output file for the comparison; default OTHER_DIR/comparison.html."),
    ] = None,
    overwrite: opt.Overwrite = False,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Redraw a study's report, export its table, or compare it with another study.

    Reads only the studies' records. A comparison lists the settings that differ and each method's scores in both. It
    pairs test rows if both studies used the same ones; otherwise it shows confidence intervals only.
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
        raise ConfigError(f"Both --table {table} and --json were given. Expected only one.")
    if table is not None and other is not None:
        raise ConfigError(f"--table {table} exports the table of one study, but two were given. Expected one.")
    if table is None and output is not None:
        raise ConfigError(f"--output {output} requires a table. Also pass --table csv, md or latex.")
    if other is None and out is not None:
        raise ConfigError(
            f"--out {out} requires two studies to compare, but only one was given. The report of one study is always "
            "report.html in its folder."
        )


def _redraw(study: Path, *, json: bool) -> None:
    from feathertune.cli.output.tables import study_text
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
    sys.stderr.write(f"Wrote the table to {output}\n")


def _compare(first: Path, second: Path, out: Path | None, *, overwrite: bool, json: bool) -> None:
    from feathertune.cli.output.comparison import comparison_text
    from feathertune.output_folder import write_output
    from feathertune.report.comparison import COMPARISON_FILE, draw_comparison
    from feathertune.study.versus import compare_studies

    comparison = compare_studies(first, second)
    page = out or second / COMPARISON_FILE
    # In the study's own folder the page is redrawn each time, like its report.
    write_output(page, draw_comparison(comparison), option="--out", overwrite=overwrite or out is None)
    sys.stdout.write(comparison.model_dump_json(indent=1) + "\n" if json else comparison_text(comparison, page))
