"""Options that several commands share, and their settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from feathertune.config import Config, DataConfig, Section, StudyConfig, TrainConfig, load_config

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
    str | None,
    typer.Option(
        "--base",
        help="Base model: sample:minilm, a hub id, a folder or a .gguf file; compare takes several, as A,B.",
    ),
]
TextColumn = Annotated[
    str | None, typer.Option("--text-column", metavar="A[,B]", help="The column of the texts; two for pairs of texts.")
]
LabelColumn = Annotated[str | None, typer.Option("--label-column", help="The column of the labels.")]
LabelSeparator = Annotated[
    str | None,
    typer.Option(
        "--label-separator",
        metavar="TEXT",
        help="Stands between the labels of a text that may have several, such as |.",
    ),
]
MaxLength = Annotated[int | None, typer.Option("--max-length", help="Tokens that are read at once; more is cut.")]
TopLayers = Annotated[
    str | None,
    typer.Option("--top-layers", help="Adapt this many of the last layers only; auto finds how few are enough."),
]
MatchParameters = Annotated[
    str | None,
    typer.Option(
        "--match-parameters",
        metavar="SIZE",
        help="Size each method to train this much of the encoder, such as 0.3% or 70000; the head is not counted.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an older result.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from the last checkpoint of a training that was stopped.")
]
DropInvalid = Annotated[bool, typer.Option("--drop-invalid", help="Leave out rows without text or label.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on stdout.")]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Print the plan and its cost estimate, and start nothing. With --out keep the estimate: the study "
        "compares it with the actual costs.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
Track = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        metavar="NAME",
        help="Also tell tensorboard, mlflow, wandb (offline) or trackio; several with commas, or given several times.",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def _option(flag: str, help: str, kind: type = str, metavar: str | None = None) -> Any:  # noqa: ANN401 - Annotated
    given = kind if kind is bool else kind | None
    return Annotated[given, typer.Option(flag, metavar=metavar, help=help)]


# Options for data, training and study, in the order of their help; commands leave some out.
_SHARED: dict[str, Any] = {
    "test": _option("--test", "A test set of its own.", metavar="DATA"),
    "text_column": TextColumn,
    "label_column": LabelColumn,
    "label_separator": LabelSeparator,
    "split_column": _option("--split-column", "The column that says train, validation or test."),
    "train_size": _option("--train-size", "Rows to train on.", int),
    "shots": _option(
        "--shots", "K rows of each class are known in all, drawn anew for each seed (docs/few-labels.md).", int, "K"
    ),
    "validation_size": _option("--validation-size", "Rows, or a share such as 0.1; 0 trains without."),
    "test_size": _option("--test-size", "Rows, or a share such as 0.2."),
    "max_length": MaxLength,
    "long": _option("--long", "How longer texts are read: head, head-tail or windows (docs/long.md).", metavar="HOW"),
    "epochs": _option("--epochs", "Passes over the training rows, at most.", int),
    "class_weights": _option(
        "--class-weights",
        "balanced lets rare classes count as much as frequent ones in training (docs/imbalance.md).",
        metavar="HOW",
    ),
    "top_layers": TopLayers,
    "match_parameters": MatchParameters,
    "metric": _option(
        "--metric",
        "Primary metric, which ranks the methods, e.g. balanced_accuracy (docs/concepts.md); by default the "
        "training rows decide.",
        metavar="SCORE",
    ),
    "train_sizes": _option(
        "--train-sizes",
        "A learning curve: everything on so many of the training rows, such as 100,300,1000,all.",
        metavar="N,N,...",
    ),
    "search": _option(
        "--search", "Find each method's options by N trials on validation rows, before its runs.", int, "N"
    ),
    "seed": _option("--seed", "Of the split (and, in train, of the training).", int),
    "merge_labels": _option(
        "--merge-labels", "Read labels that look alike, such as neg and NEG, as the most frequent of them.", bool
    ),
    "drop_invalid": DropInvalid,
    "runner": _option(
        "--runner", "local: one run after the other, here; ray: several at a time, on a Ray cluster.", metavar="NAME"
    ),
    "ray_address": _option(
        "--ray-address",
        "The cluster of --runner ray; by default that of RAY_ADDRESS, else one of this machine alone.",
        metavar="HOST:PORT",
    ),
}

# Options that change nothing for a command that only reads data.
NOT_DATA = tuple(name for name in _SHARED if name not in DataConfig.model_fields)


def shared(*, without: Collection[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these options, as ``**shared``; in its help they come before its keyword-only parameters."""

    def extended(command: Callable[..., None]) -> Callable[..., None]:
        own = [one for one in signature(command, eval_str=True).parameters.values() if one.kind != one.VAR_KEYWORD]
        added = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=False if kind.__origin__ is bool else None, annotation=kind)
            for name, kind in _SHARED.items()
            if name not in without
        ]
        every = sorted([*added, *own], key=lambda one: one.kind)
        command.__signature__ = Signature(every)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in every}
        return command

    return extended


# A parameter with the name of a setting sets it; some have a name of their own.
_SECTIONS: dict[str, type[Section]] = {"data": DataConfig, "train": TrainConfig, "study": StudyConfig}
_KEYS = {name: f"{section}.{name}" for section, kind in _SECTIONS.items() for name in kind.model_fields} | {
    "data": "data.source",
    "base": "base.id",
    "top_layers": "method.top_layers",
    "runner": "runner.name",
    "ray_address": "runner.address",
}


def settings(parameters: Mapping[str, Any], *, defaults: Mapping[str, Any] | None = None) -> Config:
    """Return a command's configuration from its parameters by name; None and False mean not given."""
    given = {
        key: value for name, key in _KEYS.items() if (value := parameters.get(name)) is not None and value is not False
    }
    for key in ("data.validation_size", "data.test_size", "method.top_layers"):
        if key in given:
            given[key] = _size(given[key])
    if "study.methods" in given:
        given["study.methods"] = _names(given["study.methods"])
    if "," in given.get("base.id", ""):
        given["base"] = _names(given.pop("base.id"))
    return load_config(
        parameters.get("config"),
        assignments=parameters.get("assignments") or (),
        options=given,
        defaults=defaults,
    )


# One between names, not one of a list in a name's option: lora:target_modules=[query,value],full.
_COMMA = re.compile(r",(?![^\[]*\])")


def _names(text: str) -> list[str]:
    return [name.strip() for name in _COMMA.split(text) if name.strip()]


def _size(text: str) -> int | float | str:
    """Return a number as typed; other text is left for the settings to refuse."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
