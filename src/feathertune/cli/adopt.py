"""``feathertune import``, named `adopt` here because ``import`` is a Python keyword."""

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
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="Folder written by PEFT's save_pretrained.")],
    out: Annotated[Path, typer.Option("--out", help="Output folder for the bundle.")],
    labels: Annotated[
        str, typer.Option("--labels", metavar="A,B", help="Class names in logit order, e.g. negative,positive.")
    ],
    base: Annotated[
        str | None, typer.Option("--base", help="Base model; by default the one the adapter names.")
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option("--max-length", help="Maximum tokens per text in training; by default the base model's maximum."),
    ] = None,
    pairs: Annotated[bool, typer.Option("--pairs", help="The adapter reads pairs of texts.")] = False,
    task: Annotated[
        str | None,
        typer.Option(
            "--task", metavar="TASK", help="single_label or multi_label; by default from the model's problem_type."
        ),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            "--threshold",
            metavar="P[,P]",
            help="Multi-label: minimum probability, one for all labels or one each; default 0.5.",
        ),
    ] = None,
    label_separator: opt.LabelSeparator = None,
    overwrite: opt.Overwrite = False,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Turn an adapter trained with plain PEFT into a bundle.

    The bundle is kept only if its logits match those of plain PEFT, before and after a reload. An adapter without its
    trained head is refused: PEFT did not save the head, so its weights are lost.
    """
    from feathertune.bundle.adopt import MultiLabel, adopt_adapter
    from feathertune.tasks import MULTI_LABEL, TASKS

    asked = cast("ImportedTask | None", task)  # `adopt_adapter` refuses other words
    if threshold is not None or label_separator is not None:
        if task in TASKS and TASKS[task].default_threshold is None:
            raise ConfigError(f"--threshold and --label-separator require --task {MULTI_LABEL.name}, not {task}.")
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
    sys.stdout.write(f"Bundle: {out}\nLabels in logit order: {order}\n")
    sys.stdout.write("".join(f"{note}\n" for note in adopted.notes))
    sys.stdout.write(f'Try it: feathertune predict {out} --text "..."{second}\n')


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--threshold is '{text}'. Expected a number such as 0.5, or one per label.") from None
