"""``feathertune import`` (``import`` is a keyword of Python)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from feathertune.cli import options as opt
from feathertune.errors import ConfigError

if TYPE_CHECKING:
    from feathertune.bundle.adopt import ImportedTask


def adopt(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="A folder that PEFT's save_pretrained wrote.")],
    out: Annotated[Path, typer.Option("--out", help="Where the bundle shall be.")],
    labels: Annotated[
        str, typer.Option("--labels", metavar="A,B", help="The classes, in the order of the logits: PEFT keeps none.")
    ],
    base: Annotated[
        str | None, typer.Option("--base", help="The encoder that it was trained on, if not the one that it names.")
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            "--max-length", help="Tokens at which texts were cut in training; the encoder's longest if not given."
        ),
    ] = None,
    pairs: Annotated[bool, typer.Option("--pairs", help="It was trained on pairs of texts.")] = False,
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            metavar="TASK",
            help="single_label, or multi_label where a text may have several; if not given, multi_label where the "
            "model's problem_type says so.",
        ),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            "--threshold",
            metavar="P[,P]",
            help="Of several labels a text: the probability from which each is given, one for all or one for each; "
            "0.5 if not given.",
        ),
    ] = None,
    label_separator: opt.LabelSeparator = None,
    overwrite: opt.Overwrite = False,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Make a bundle of an adapter that plain PEFT wrote.

    It is kept only if it gives the logits of plain PEFT, and gives them again after a reload. What PEFT did not save of
    the head and no checkpoint holds is lost, and such an adapter is refused.
    """
    from feathertune.bundle.adopt import MultiLabel, adopt_adapter
    from feathertune.tasks import MULTI_LABEL, TASKS

    asked = cast("ImportedTask | None", task)  # another word is refused there
    if threshold is not None or label_separator is not None:
        if task in TASKS and TASKS[task].default_threshold is None:
            raise ConfigError(f"--threshold and --label-separator need --task {MULTI_LABEL.name}, not {task}.")
        if task is None or task in TASKS:
            asked = MultiLabel(None if threshold is None else _numbers(threshold), label_separator)
    adopted = adopt_adapter(
        adapter,
        out,
        labels=labels.split(","),
        base=base,
        max_length=max_length,
        pairs=pairs,
        task=asked,
        overwrite=overwrite,
    )
    if json:
        sys.stdout.write(adopted.info.model_dump_json(indent=1) + "\n")
        sys.stderr.write("".join(f"{note}\n" for note in adopted.notes))
        return
    second = ' --text-pair "..."' if pairs else ""
    order = ", ".join(f"{index} = {label}" for index, label in enumerate(adopted.info.labels))
    sys.stdout.write(f"Bundle: {out}\nLabels, by the place of their logit: {order}\n")
    sys.stdout.write("".join(f"{note}\n" for note in adopted.notes))
    sys.stdout.write(f'Try it: feathertune predict {out} --text "..."{second}\n')


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--threshold is '{text}'. Expected a number such as 0.5, or one for each label.") from None
