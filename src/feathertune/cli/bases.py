"""``feathertune bases``."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from feathertune.cli import options as opt

_MOST_ROWS = 5000  # time grows with the cube of the rows


@opt.shared(without=("shots", *opt.NOT_DATA))
def bases(
    data: opt.RequiredData,
    candidates: Annotated[
        str,
        typer.Option("--base", metavar="A,B,...", help="Base models: sample:minilm, hub ids, folders or .gguf files."),
    ],
    rows: Annotated[int, typer.Option("--rows", min=20, max=_MOST_ROWS, help="Maximum training rows to read.")] = 1000,
    config: opt.ConfigFile = None,
    assignments: opt.Assignments = None,
    *,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
    **shared: Any,  # noqa: ANN401 - of the types that typer reads
) -> None:
    """Rank base models before training.

    Each base makes one forward pass over a sample of the training rows. Its score is the R2 of a linear probe on
    held-out rows. To compare bases after training, use compare.
    """
    settings = opt.settings(locals() | shared)
    from feathertune.cli.output.base_table import ranking_text
    from feathertune.cli.output.progress import observe
    from feathertune.study.rank_bases import rank_bases

    names = [name.strip() for name in candidates.split(",") if name.strip()]
    with observe(quiet=quiet or json) as observer:
        ranking = rank_bases(settings, names, rows=rows, observer=observer)
    sys.stdout.write(ranking.model_dump_json(indent=1) + "\n" if json else ranking_text(ranking))
    if ranking.failed:
        raise typer.Exit(1)
