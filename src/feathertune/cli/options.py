"""Options that several commands share, and how they become settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from feathertune.config import Config, load_config

Data = Annotated[
    str | None,
    typer.Argument(
        metavar="DATA",
        help="sample:imdb, sample:rotten-tomatoes, hub:NAME, a .csv .tsv .jsonl .parquet file, or a folder with one "
        "subfolder a label.",
    ),
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="A YAML file of settings; options win over it.")]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, such as train.epochs=3.")
]
Base = Annotated[
    str | None, typer.Option("--base", help="The pretrained encoder: sample:minilm, a hub id, or a local folder.")
]
TestData = Annotated[str | None, typer.Option("--test", metavar="DATA", help="A test set of its own.")]
TextColumn = Annotated[str | None, typer.Option("--text-column", help="The column of the texts.")]
LabelColumn = Annotated[str | None, typer.Option("--label-column", help="The column of the labels.")]
SplitColumn = Annotated[
    str | None, typer.Option("--split-column", help="The column that says train, validation or test.")
]
TrainSize = Annotated[int | None, typer.Option("--train-size", help="Rows to train on.")]
ValidationSize = Annotated[str | None, typer.Option("--validation-size", help="Rows, or a share such as 0.1.")]
TestSize = Annotated[str | None, typer.Option("--test-size", help="Rows, or a share such as 0.2.")]
MaxLength = Annotated[int | None, typer.Option("--max-length", help="Longest text, in tokens; more is cut.")]
Epochs = Annotated[int | None, typer.Option("--epochs", help="Passes over the training rows, at most.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Of the split (and, in train, of the training).")]
DropInvalid = Annotated[
    bool, typer.Option("--drop-invalid", help="Leave out rows without text or label, and count them.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an older result.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on stdout.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Read the data, print the plan, and stop.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def settings(
    config: Path | None,
    assignments: list[str] | None,
    options: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any] | None = None,
) -> Config:
    """Put the settings together; see `feathertune.config.load_config`.

    Args:
        config: The file of ``--config``.
        assignments: Of ``--set``.
        options: Dotted key to value; ``None`` and ``False`` mean not given.
        defaults: Settings below the file.
    """
    given = {key: value for key, value in options.items() if value is not None and value is not False}
    return load_config(config, assignments=assignments or (), options=given, defaults=defaults)


def names(text: str | None) -> list[str] | None:
    """Names between commas."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def size(text: str | None) -> int | float | str | None:
    """Rows or a share, as typed; what is neither is left for the settings to refuse."""
    if text is None:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
