"""Options shared by several commands, and the settings they stand for."""

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
        "subfolder per label.",
    ),
]
RequiredData = Annotated[str, typer.Argument(metavar="DATA", help="Data source, as in `feathertune compare`.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file of settings; options override it.")]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one setting, e.g. train.epochs=3.")
]
EngineAssignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one engine setting, e.g. engine.dtype=fp32."),
]
Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        help="Base model: sample:minilm, hub id, folder or .gguf file; in compare also A,B.",
    ),
]
TextColumn = Annotated[
    str | None, typer.Option("--text-column", metavar="A[,B]", help="Text column, or two for pairs: question,answer.")
]
LabelColumn = Annotated[str | None, typer.Option("--label-column", help="Label column.")]
LabelSeparator = Annotated[
    str | None,
    typer.Option(
        "--label-separator",
        metavar="TEXT",
        help="Separator between the labels of a multi-label text, e.g. |.",
    ),
]
MaxLength = Annotated[
    int | None, typer.Option("--max-length", help="Maximum tokens per text; longer texts are truncated.")
]
TopLayers = Annotated[
    str | None,
    typer.Option("--top-layers", help="Number of last layers to adapt, e.g. 3; auto searches for the fewest."),
]
MatchParameters = Annotated[
    str | None,
    typer.Option(
        "--match-parameters",
        metavar="SIZE",
        help="Trainable-parameter budget per method, excluding the head, e.g. 0.3% or 70000.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing result.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue a stopped training from its last checkpoint.")]
DropInvalid = Annotated[bool, typer.Option("--drop-invalid", help="Skip rows without a text or a label.")]
Json = Annotated[bool, typer.Option("--json", help="Print only the result, as JSON.")]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Print the plan and its cost estimate only; --out saves the estimate.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Hide progress.")]
Track = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        metavar="NAME",
        help="Trackers to log to: tensorboard, mlflow, wandb (offline), trackio. Comma-separated or repeated.",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")]


def _option(flag: str, help: str, kind: type = str, metavar: str | None = None) -> Any:  # noqa: ANN401 - Annotated
    given = kind if kind is bool else kind | None
    return Annotated[given, typer.Option(flag, metavar=metavar, help=help)]


# Options for data, training and study in help order; each command leaves some out.
_SHARED: dict[str, Any] = {
    "test": _option("--test", "Separate test data, e.g. test.csv.", metavar="DATA"),
    "text_column": TextColumn,
    "label_column": LabelColumn,
    "label_separator": LabelSeparator,
    "split_column": _option("--split-column", "Column with train, validation or test."),
    "train_size": _option("--train-size", "Number of training rows.", int),
    "shots": _option(
        "--shots", "Few-label study: K labelled rows per class, redrawn per seed (docs/few-labels.md).", int, "K"
    ),
    "validation_size": _option("--validation-size", "Number or share of validation rows, e.g. 0.1; 0 for none."),
    "test_size": _option("--test-size", "Number or share of test rows, e.g. 0.2."),
    "max_length": MaxLength,
    "long": _option("--long", "Reading of longer texts: head, head-tail or windows (docs/long.md).", metavar="HOW"),
    "epochs": _option("--epochs", "Maximum passes over the training rows.", int),
    "class_weights": _option(
        "--class-weights",
        "Class weights in the loss: none or balanced (docs/imbalance.md).",
        metavar="HOW",
    ),
    "top_layers": TopLayers,
    "match_parameters": MatchParameters,
    "metric": _option(
        "--metric",
        "Primary metric, e.g. balanced_accuracy; by default chosen from the training rows (docs/concepts.md).",
        metavar="SCORE",
    ),
    "train_sizes": _option(
        "--train-sizes",
        "Training-set sizes for a learning curve, e.g. 100,300,1000,all.",
        metavar="N,N,...",
    ),
    "search": _option("--search", "Hyperparameter trials per method, scored on validation rows, e.g. 20.", int, "N"),
    "seed": _option("--seed", "Seed of the split; for train, also of the training.", int),
    "merge_labels": _option("--merge-labels", "Merge labels that look alike, e.g. neg and NEG.", bool),
    "drop_invalid": DropInvalid,
    "runner": _option("--runner", "local runs one at a time; ray runs several on a Ray cluster.", metavar="NAME"),
    "ray_address": _option(
        "--ray-address",
        "Ray cluster; by default RAY_ADDRESS, else a local one.",
        metavar="HOST:PORT",
    ),
}

# Options without effect for a command that only reads data.
NOT_DATA = tuple(name for name in _SHARED if name not in DataConfig.model_fields)


def shared(*, without: Collection[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add these options to a command as ``**shared``; its help lists them before its keyword-only parameters."""

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


# A parameter sets the setting of the same name; these are named differently.
_SECTIONS: dict[str, type[Section]] = {"data": DataConfig, "train": TrainConfig, "study": StudyConfig}
_KEYS = {name: f"{section}.{name}" for section, kind in _SECTIONS.items() for name in kind.model_fields} | {
    "data": "data.source",
    "base": "base.id",
    "top_layers": "method.top_layers",
    "runner": "runner.name",
    "ray_address": "runner.address",
}


def settings(parameters: Mapping[str, Any], *, defaults: Mapping[str, Any] | None = None) -> Config:
    """Return a command's configuration from its parameters, by name; None and False mean not given."""
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


# A comma between names, not inside a list: lora:target_modules=[query,value],full.
_COMMA = re.compile(r",(?![^\[]*\])")


def _names(text: str) -> list[str]:
    return [name.strip() for name in _COMMA.split(text) if name.strip()]


def _size(text: str) -> int | float | str:
    """Return a number as typed; the settings refuse any other text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
