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
    out: Annotated[Path, typer.Option("--out", help="Output folder.")],
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
            help="Real texts for verification, ideally labelled; validation rows if present.",
        ),
    ] = None,
    text_column: opt.TextColumn = None,
    label_column: opt.LabelColumn = None,
    rows: Annotated[
        int | None, typer.Option("--rows", help=f"Maximum rows of DATA to use; default {DEFAULT_ROWS:,}.")
    ] = None,
    max_flips: Annotated[
        float,
        typer.Option(
            "--max-flips",
            metavar="SHARE",
            help="Rounding forms: maximum share of changed labels (numbers: docs/numbers.md).",
        ),
    ] = Check.max_flips,
    max_accuracy_loss: Annotated[
        float,
        typer.Option(
            "--max-accuracy-loss",
            metavar="SHARE",
            help="Rounding forms: maximum loss of accuracy; 0.005 is half a point.",
        ),
    ] = Check.max_accuracy_loss,
    overwrite: opt.Overwrite = False,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Export a bundle to run without feathertune.

    The export is verified against the bundle on several hundred synthetic texts and on the rows of --data. It is kept
    only if its predictions agree; parity.json records the differences.
    """
    check = Check(data, text_column, label_column, rows, max_flips, max_accuracy_loss)
    parity = export_model(bundle, out, to=to, base=base, check=check, overwrite=overwrite)
    sys.stdout.write(parity.model_dump_json(indent=1) + "\n" if json else f"Written: {out}\n{_figures(parity)}")


def _figures(parity: Parity) -> str:
    allowed = "" if parity.tolerance is None else f" (allowed: {parity.tolerance:.1e})"
    loss = parity.max_accuracy_loss
    if isinstance(parity, NumberParity):
        least = "" if parity.least_agreement is None else f" (allowed: {parity.least_agreement:.3f})"
        answers = f"; the rank correlation of both is {parity.rank_agreement:.4f}{least}"
        given, score, digits, less = "numbers", "Rank correlation", ".4f", f"{loss or 0:.2g}"
        before, after = parity.rank_correlation_before, parity.rank_correlation_after
    else:
        flips = "" if parity.max_flips is None else f" (allowed: {parity.max_flips:.2%} of the texts)"
        answers = f"; {parity.label_flips} labels differ{flips}"
        given, score, digits, less = "logits", "Accuracy", ".2%", f"{100 * (loss or 0):.2g} points"
        before, after = parity.accuracy_before, parity.accuracy_after
    said = (
        f"On {parity.n_texts} texts of up to {parity.longest} tokens, the {given} differ from the bundle's by at most "
        f"{parity.max_abs_difference:.1e}{allowed}{answers}.\n"
    )
    if before is None or after is None:
        return said
    scores = f"{before:{digits}} before, {after:{digits}} after"
    most = "" if loss is None else f" (allowed: {less} less)"
    return f"{said}{score} on {parity.n_real} rows of {parity.data}: {scores}{most}.\n"
