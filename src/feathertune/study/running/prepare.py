"""Prepare a base model for one method: the start of every training in a study."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from feathertune.config import TrainConfig
from feathertune.data.tokens.batching import plan_steps
from feathertune.encoders import LoadedEncoder
from feathertune.engine.fast_path import turn_off_dropout
from feathertune.engine.training.distributed import ALONE, Group
from feathertune.engine.training.gradient import Labelled
from feathertune.engine.training.head import fit_head
from feathertune.engine.training.loop import Recipe, Training
from feathertune.methods import Job, Method, Options, method_named
from feathertune.runtime import Runtime
from feathertune.study.run_spec import RunSpec
from feathertune.study.running.workbench import Workbench
from feathertune.tasks import Task
from feathertune.tasks.losses import Objective, objective_of

# Memory for a pass's activations in transformers' blocks: about 64 bytes per element of each layer's state, measured on
# Llama's shape.
_ACTIVATION_BYTES, _BYTES_PER_STATE = 5 << 28, 64


@dataclass(frozen=True)
class ReadyModel:
    """A model prepared by a method, on its device; `objective` is the loss for the study's training rows."""

    method: Method
    options: Options
    job: Job
    encoder: LoadedEncoder
    model: nn.Module
    objective: Objective


def method_of(spec: RunSpec) -> tuple[Method, Options]:
    """Return a run's method and its options."""
    method = method_named(spec.method)
    return method, method.options.model_validate(spec.options)


def training_options(spec: RunSpec, bench: Workbench, *, n_steps: int) -> Options:
    """Return the options of a run's training of `n_steps` steps, with its scaled learning rate."""
    method = method_named(spec.method)
    return method.options_for(spec.options, hidden_size=bench.base.hidden_size, n_steps=n_steps)


def ready_model(spec: RunSpec, train: TrainConfig, bench: Workbench, *, n_rows: int | None = None) -> ReadyModel:
    """Load the base model and let the run's method prepare it for training on `n_rows` rows, by default all."""
    method, job = method_named(spec.method), job_of(bench, train, spec.seed, n_rows=n_rows)
    options = training_options(spec, bench, n_steps=job.n_steps)
    encoder, model = prepared_model(method, options, job, bench, dropout=train.dropout)
    objective = objective_of(train, bench.splits["train"].labels, len(bench.splits.labels))
    return ReadyModel(method, options, job, encoder, model, objective)


def prepared_model(
    method: Method, options: Options, job: Job, bench: Workbench, *, dropout: str
) -> tuple[LoadedEncoder, nn.Module]:
    """Return the encoder and the model that a method builds from it; `dropout` is ``train.dropout``."""
    encoder = bench.pretrained.load(job.seed, in_fp32=not method.peft_config)
    if dropout == "off" or (dropout == "auto" and method.kind != "full"):
        turn_off_dropout(encoder.backbone)  # before the method adds its own dropout
    model = method.prepare(encoder, options, job).to(bench.runtime.device)
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype == torch.bfloat16:  # small steps would round to zero
            parameter.data = parameter.data.float()
    return encoder, model


def job_of(bench: Workbench, train: TrainConfig, seed: int, *, n_rows: int | None = None) -> Job:
    """Return the facts about a training on `n_rows` rows (by default all) that a method may use."""
    texts = bench.encoded["train"]

    def batches() -> Iterator[dict[str, Tensor]]:
        steps = plan_steps(texts.lengths, batch_size=train.batch_size, token_budget=train.token_budget, seed=(seed, 0))
        return (texts.collate(rows, torch.device("cpu")) for passes in steps for rows in passes)

    return Job(
        seed=seed,
        n_steps=train.steps_on(len(texts) if n_rows is None else n_rows),
        max_length=bench.data.max_length,
        batches=batches,
    )


def training_of(
    ready: ReadyModel,
    train: Labelled,
    validation: Labelled,
    *,
    settings: TrainConfig,
    runtime: Runtime,
    task: Task | None = None,
    group: Group = ALONE,
) -> Training:
    """Return the training of a prepared model, with the method's rates and hook."""
    method, options = ready.method, ready.options
    settings = settings.model_copy(update={"token_budget": pass_tokens(ready.encoder, settings.token_budget)})
    return Training(
        ready.model,
        train,
        validation,
        Recipe(
            settings,
            learning_rate=options.learning_rate,
            seed=ready.job.seed,
            task=task,
            rate_of=method.rates(options),
            hook=None if method.hook is None else method.hook(ready.model, options, ready.job),
        ),
        runtime=runtime,
        group=group,
    )


def pass_tokens(encoder: LoadedEncoder, token_budget: int) -> int:
    """Return the number of padded tokens per pass whose activations fit `_ACTIVATION_BYTES`, at most `token_budget`."""
    if encoder.forms and encoder.forms[0].is_berts:  # these models are small, and the engine's blocks keep little
        return token_budget
    return max(1, min(token_budget, _ACTIVATION_BYTES // (_BYTES_PER_STATE * encoder.n_layers * encoder.hidden_size)))


def begins_with_head(method: Method, settings: TrainConfig) -> bool:
    """Return True if the head is fitted first, which needs a method that starts with unchanged encoder features."""
    return settings.head_first == "on" and method.zero_init


def start_head(ready: ReadyModel, bench: Workbench) -> None:
    """Fit the head to the frozen encoder's features, or to the method's if they differ; skip heads without a vector."""
    if ready.encoder.facts.reads is None:
        return
    texts = bench.encoded["train"]
    if ready.method.rereads(ready.options):
        read, *_ = bench.pretrained.read_by(ready.encoder, texts, lambda _: None)
    else:
        read = bench.features("train", lambda _: None).read
    labels = bench.splits["train"].labels
    fit_head(ready.encoder, read, labels, seed=ready.job.seed, texts=texts, objective=ready.objective)
