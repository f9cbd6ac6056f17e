"""``feathertune export``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from feathertune.cli import options as opt
from feathertune.cli.predict import BaseOption, BundleArgument
from feathertune.export import DEFAULT_ROWS, TARGETS, Check, NumberParity, Parity, export_model


def export(
    bundle: BundleArgument,
    out: Annotated[Path, typer.Option("--out", help="Where the new folder shall be.")],
    to: Annotated[
        str,
        typer.Option("--to", metavar="FORM", help=" ".join(f"{t.name}: {t.summary}" for t in TARGETS)),
    ] = "merged",
    base: BaseOption = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="Real texts to compare on, best with labels: any data source, or a file of texts alone. Of one with "
            "splits the validation rows.",
        ),
    ] = None,
    text_column: opt.TextColumn = None,
    label_column: opt.LabelColumn = None,
    rows: Annotated[
        int | None, typer.Option("--rows", help=f"How many of its rows; {DEFAULT_ROWS:,}, if there are as many.")
    ] = None,
    max_flips: Annotated[
        float,
        typer.Option(
            "--max-flips",
            metavar="SHARE",
            help="Of a form that rounds: rows that may get another label; of numbers, see docs/numbers.md.",
        ),
    ] = Check.max_flips,
    max_accuracy_loss: Annotated[
        float,
        typer.Option("--max-accuracy-loss", metavar="SHARE", help="Likewise, of the accuracy; 0.005 is half a point."),
    ] = Check.max_accuracy_loss,
    overwrite: opt.Overwrite = False,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Write a bundle in another form, for whoever shall run it without feathertune.

    The result is compared with the bundle on some hundred made texts and on the rows of --data, and kept only if it
    gives the same answers: parity.json says how near they are.
    """
    check = Check(data, text_column, label_column, rows, max_flips, max_accuracy_loss)
    parity = export_model(bundle, out, to=to, base=base, check=check, overwrite=overwrite)
    sys.stdout.write(parity.model_dump_json(indent=1) + "\n" if json else f"Written: {out}\n{_figures(parity)}")


def _figures(parity: Parity) -> str:
    allowed = "" if parity.tolerance is None else f" (allowed: {parity.tolerance:.1e})"
    loss = parity.max_accuracy_loss
    if isinstance(parity, NumberParity):
        least = "" if parity.least_agreement is None else f" (allowed: {parity.least_agreement:.3f})"
        answers = f"; both are in one order up to a rank correlation of {parity.rank_agreement:.4f}{least}"
        given, score, digits, less = "numbers", "Rank correlation", ".4f", f"{loss or 0:.2g}"
        before, after = parity.rank_correlation_before, parity.rank_correlation_after
    else:
        flips = "" if parity.max_flips is None else f" (allowed: {parity.max_flips:.2%} of the texts)"
        answers = f", and {parity.label_flips} labels{flips}"
        given, score, digits, less = "logits", "Accuracy", ".2%", f"{100 * (loss or 0):.2g} points"
        before, after = parity.accuracy_before, parity.accuracy_after
    said = (
        f"On {parity.n_texts} texts of up to {parity.longest} tokens the {given} differ from the bundle's by "
        f"{parity.max_abs_difference:.1e} at most{allowed}{answers}.\n"
    )
    if before is None or after is None:
        return said
    scores = f"{before:{digits}} before, {after:{digits}} after"
    most = "" if loss is None else f" (allowed: {less} less)"
    return f"{said}{score} on {parity.n_real} rows of {parity.data}: {scores}{most}.\n"
