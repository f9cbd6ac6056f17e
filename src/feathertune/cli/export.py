"""``feathertune export``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from feathertune.cli import options as opt
from feathertune.cli.apply import BaseOption, BundleArgument
from feathertune.export import TARGETS, export_model


def export(
    bundle: BundleArgument,
    out: Annotated[Path, typer.Option("--out", help="Where the new folder shall be.")],
    to: Annotated[
        str,
        typer.Option("--to", metavar="FORM", help="; ".join(f"{t.name}: {t.summary}" for t in TARGETS)),
    ] = "merged",
    base: BaseOption = None,
    overwrite: opt.Overwrite = False,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Write a bundle in another form, for whoever shall run it without feathertune.

    The result is compared with the bundle on some hundred texts, and kept only if it gives the same answers:
    parity.json says how near they are.
    """
    parity = export_model(bundle, out, to=to, base=base, overwrite=overwrite)
    if json:
        sys.stdout.write(parity.model_dump_json(indent=1) + "\n")
        return
    sys.stdout.write(
        f"Written: {out}\n"
        f"On {parity.n_texts} texts of up to {parity.longest} tokens the logits differ from the bundle's by "
        f"{parity.max_abs_difference:.1e} at most (allowed: {parity.tolerance:.1e}), and {parity.label_flips} labels.\n"
    )
