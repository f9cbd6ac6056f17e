"""An encoder made ready for one method, as every training of a study starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from feathertune.data.tokens.batching import plan_steps
from feathertune.engine.dropout import turn_off_dropout
from feathertune.engine.training.distributed import ALONE, Group
from feathertune.engine.training.gradient import Labelled
from feathertune.engine.training.head import fit_head
from feathertune.engine.training.loop import Recipe, Training
from feathertune.methods import Job

if TYPE_CHECKING:
    from torch import Tensor, nn

    from feathertune.config import TrainConfig
    from feathertune.encoders import LoadedEncoder
    from feathertune.methods import Method, Options
    from feathertune.runtime import Runtime
    from feathertune.study.running.workbench import Workbench
    from feathertune.tasks import Task


def prepared_model(method: Method, options: Options, job: Job, bench: Workbench) -> tuple[LoadedEncoder, nn.Module]:
    """Load the encoder and let the method change it.

    Args:
        method: The method.
        options: Its options.
        job: What it is prepared for; the head depends on its seed, too.
        bench: Encoder, settings and machine.

    Returns:
        The encoder, and the model to train, on its device.
    """
    encoder = bench.load_encoder(job.seed)
    wanted = bench.config.train.dropout
    if wanted == "off" or (wanted == "auto" and method.kind != "full"):
        turn_off_dropout(encoder.backbone)  # before the method adds a dropout of its own
    return encoder, method.prepare(encoder, options, job).to(bench.runtime.device)


def job_of(bench: Workbench, seed: int) -> Job:
    """What a method may know of a training on all rows of a study."""
    texts, train = bench.encoded["train"], bench.config.train

    def batches() -> Iterator[dict[str, Tensor]]:
        steps = plan_steps(texts.lengths, batch_size=train.batch_size, token_budget=train.token_budget, seed=(seed, 0))
        return (texts.collate(rows, torch.device("cpu")) for passes in steps for rows in passes)

    return Job(
        seed=seed,
        n_steps=train.steps_on(len(texts)),
        max_length=bench.config.data.max_length,
        batches=batches,
    )


def training_of(
    method: Method,
    options: Options,
    model: nn.Module,
    job: Job,
    train: Labelled,
    validation: Labelled,
    *,
    settings: TrainConfig,
    runtime: Runtime,
    group: Group = ALONE,
    task: Task | None = None,
) -> Training:
    """The training of a prepared model, with what the method does in it.

    Args:
        method: The method.
        options: Its options.
        model: What it has prepared.
        job: What it was prepared for.
        train: Training examples.
        validation: For the choice of the best epoch.
        settings: Epochs, batch, schedule.
        runtime: Device and number format.
        group: The processes that train together.
        task: How epochs are scored, and which is the better one.
    """
    return Training(
        model,
        train,
        validation,
        Recipe(
            settings,
            learning_rate=options.learning_rate,
            seed=job.seed,
            task=task,
            rate_of=method.rates(options),
            hook=None if method.hook is None else method.hook(model, options, job),
        ),
        runtime=runtime,
        group=group,
    )


def begins_with_head(method: Method, settings: TrainConfig) -> bool:
    """Whether the head is fitted first: it fits the encoder's features only while the method has not changed them."""
    return settings.head_first == "on" and method.zero_init


def start_head(encoder: LoadedEncoder, method: Method, options: Options, seed: int, bench: Workbench) -> None:
    """Fit the head to the frozen encoder's features, which the probe uses too; to its own where it reads others.

    Args:
        encoder: As a method has prepared it.
        method: The method.
        options: Its options.
        seed: Of the order of the rows.
        bench: Features and labels.
    """
    texts = bench.encoded["train"]
    if method.rereads(options):
        read, _ = bench.read_by(encoder, texts, lambda _: None)
    else:
        read = bench.features("train", lambda _: None).read
    labels = bench.split("train").labels
    fit_head(encoder, read, labels, seed=seed, texts=texts, objective=bench.objective, shares=bench.shares)
