"""feathertune as a contestant: train a method like `feathertune.study.running.training`, but without a study."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from children import Problem, Rows, Spec, peak_memory_bytes, reset_peak_memory
from contestants import BATCH_SIZE, RATES, WARMUP_RATIO, WEIGHT_DECAY, Contestant
from operations import LastBlock, Sizes, Work, prefix_operations, step_operations
from passes import NO_MOVE, Passes, first_logits, first_loss, texts_of
from torch import nn
from trainer_side import quarter_steps

from feathertune.config import Config, load_config
from feathertune.encoders import LoadedEncoder, load_encoder
from feathertune.engine.fast_path import FastParts, fast_parts, turn_off_dropout
from feathertune.engine.predict import run_passes
from feathertune.engine.training.gradient import Labelled
from feathertune.engine.training.head import extract_features, fit_head
from feathertune.engine.training.loop import Recipe, StepInfo, Training
from feathertune.methods import METHODS, Job, Options, resolve_options
from feathertune.runtime import Runtime, choose_runtime, seed_everything

# Largest difference in a logit, after training, between the engine and plain transformers and PEFT in fp32.
TOLERANCE = {"bf16": 2e-2, "fp32": 1e-4}


@dataclass(frozen=True)
class Prepared:
    """A model prepared by a method, with its training settings."""

    config: Config
    runtime: Runtime
    encoder: LoadedEncoder
    model: nn.Module
    options: Options
    seed: int

    @property
    def bf16(self) -> bool:
        """True if products are in bf16."""
        return self.runtime.dtype == "bf16"

    def training(self, train: Labelled, validation: Labelled, *, learning_rate: float | None = None) -> Training:
        """Return the training loop over some rows."""
        return Training(
            self.model,
            train,
            validation,
            Recipe(self.config.train, learning_rate=learning_rate or self.options.learning_rate, seed=self.seed),
            runtime=self.runtime,
        )


def prepare(spec: Spec, contestant: Contestant, labels: tuple[str, ...], *, epochs: int) -> Prepared:
    """Prepare a model like `feathertune.study.running.training.train_and_test`, up to the fast parts."""
    config = load_config(
        options={
            "base.id": spec.base,
            "engine.device": spec.device,
            "data.max_length": spec.max_length,
            "train.epochs": epochs,
            "train.patience": epochs,
            "train.batch_size": BATCH_SIZE,
            "train.weight_decay": WEIGHT_DECAY,
            "train.warmup_ratio": WARMUP_RATIO,
            "train.learning_rate": spec.rate_scale * RATES[contestant.method],
            **contestant.settings,
        }
    )
    runtime = choose_runtime(config.engine)
    seed_everything(spec.seed)
    encoder = load_encoder(spec.base, labels=labels, seed=spec.seed, attention=runtime.attention)
    method = METHODS[contestant.method]
    if not (config.train.dropout == "on" or (config.train.dropout == "auto" and method.kind == "full")):
        turn_off_dropout(encoder.backbone)
    settings = dict(config.method)
    if (k := contestant.top_layers(encoder.n_layers)) is not None:
        settings[method.name] = {**settings.get(method.name, {}), "top_layers": k}
    by_name = {known.name: known for known in METHODS}
    options = resolve_options(method, settings, learning_rate=config.train.learning_rate, all_methods=by_name)
    model = method.prepare(encoder, options, Job(spec.seed)).to(runtime.device)
    return Prepared(config, runtime, encoder, model, options, spec.seed)


@contextlib.contextmanager
def kept_inputs(
    prepared: Prepared, contestant: Contestant, train: Labelled, validation: Labelled
) -> Iterator[tuple[Labelled, Labelled]]:
    """Yield the training inputs: the rows, or cached hidden states if only the top layers are trained."""
    if contestant.top_share is None:
        yield train, validation
        return
    from feathertune.engine.prefix_cache.store import ActivationCache

    cache = ActivationCache(
        prepared.config.engine,
        prepared.runtime,
        token_budget=prepared.config.train.token_budget,
        base_fingerprint=prepared.encoder.fingerprint,
    )
    splits = {"train": train.texts, "validation": validation.texts}
    with cache.inputs(prepared.encoder, prepared.model, splits) as inputs:
        if inputs.texts["train"] is train.texts:
            raise RuntimeError(f"Hidden states were not cached, so this is another contestant: {inputs.notes}")
        yield (
            Labelled(inputs.texts["train"], train.labels),
            Labelled(inputs.texts["validation"], validation.labels),
        )


def measure(spec: Spec, contestant: Contestant, problem: Problem) -> dict[str, Any]:
    """Measure the seconds of training steps per epoch, after a warm-up that changes no weight; caching counts."""
    prepared = prepare(spec, contestant, problem.labels, epochs=contestant.epochs)
    encoder, model = prepared.encoder, prepared.model
    few = _labelled(_one_of_each(problem), problem)
    start = time.perf_counter()
    with fast_parts(encoder, prepared.config.engine, prepared.runtime) as installed:
        install_seconds = time.perf_counter() - start
        found: dict[str, Any] = {"first_loss": first_loss(model, problem, bf16=prepared.bf16)}
        warm = _labelled(problem.warm_up(BATCH_SIZE), problem)
        with kept_inputs(prepared, contestant, warm, few) as (train, validation):
            _run(prepared.training(train, validation, learning_rate=NO_MOVE), 1)
        seed_everything(spec.seed)
        passes = Passes(encoder.backbone)
        passes.skips_padding = "blocks" in installed.parts
        reset_peak_memory()
        start = time.perf_counter()
        with kept_inputs(prepared, contestant, _labelled(problem.train, problem), few) as (train, validation):
            kept = time.perf_counter()
            training = prepared.training(train, validation)
            ready = time.perf_counter()
            seconds, losses = _run(training, contestant.epochs)
            peak = peak_memory_bytes()
        sizes, work = Sizes.of(encoder), _work(prepared, contestant, installed)
        operations = step_operations(passes.training, sizes, work) + prefix_operations(passes.other, sizes, work)
        fast = first_logits(model, problem, bf16=prepared.bf16)
    plain = first_logits(model, problem, bf16=False)
    rounded = first_logits(model, problem, bf16=prepared.bf16)
    return found | {
        "seconds": seconds,
        "prepare_seconds": install_seconds + ready - kept,
        "cache_seconds": kept - start if contestant.top_share is not None else 0.0,
        "losses": losses,
        "peak_memory_bytes": peak,
        "operations": operations,
        "padded_tokens": passes.padded_tokens,
        "dtype": prepared.runtime.dtype,
        "parts": installed.parts,
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "threads": torch.get_num_threads(),
        "largest_logit": float(plain.abs().max()),
        "logits_difference": float((fast - plain).abs().max()),
        "logits_tolerance": TOLERANCE[prepared.runtime.dtype],
        # The effect of the number format alone on plain transformers and PEFT, a lower bound for the engine.
        "logits_difference_of_plain": float((rounded - plain).abs().max()),
    }


def curve(spec: Spec, contestant: Contestant, problem: Problem) -> dict[str, Any]:
    """Measure validation accuracy after each quarter of an epoch, and the seconds until then.

    `Training` validates only at the end of an epoch. In between, this calls its `validate`; its events are a generator,
    so training pauses meanwhile.
    """
    prepared = prepare(spec, contestant, problem.labels, epochs=spec.epochs)
    train, validation = (_labelled(rows, problem) for rows in (problem.train, problem.validation))
    points = []
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        stack.enter_context(fast_parts(prepared.encoder, prepared.config.engine, prepared.runtime))
        start_head(prepared, train)
        train, validation = stack.enter_context(kept_inputs(prepared, contestant, train, validation))
        kept = time.perf_counter() - start
        training = prepared.training(train, validation)
        due = quarter_steps(training.steps_per_epoch, spec.epochs)
        step = 0
        for event in training.events():
            if isinstance(event, StepInfo):
                step = event.step
                if step not in due or step % training.steps_per_epoch == 0:
                    continue
                accuracy = training.validate()[0].accuracy
            else:
                accuracy = event.validation.accuracy
            points.append({"step": step, "seconds": time.perf_counter() - start, "accuracy": accuracy})
        seconds = time.perf_counter() - start
    return {"curve": points, "seconds": seconds, "cache_seconds": kept if contestant.top_share is not None else 0.0}


def start_head(prepared: Prepared, train: Labelled) -> None:
    """Fit the head like `feathertune.study.running.prepare.start_head`, on features that are not shared."""
    if prepared.config.train.head_first == "off":
        return
    budget = prepared.config.train.token_budget

    def read(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor]:
        return (extract_features(prepared.encoder, batch).read,)

    (features,) = run_passes(read, train.texts, token_budget=budget, runtime=prepared.runtime)
    fit_head(prepared.encoder, features, train.labels, seed=prepared.seed)


def _run(training: Training, epochs: int) -> tuple[list[float], list[float]]:
    """Return the seconds and mean loss of each epoch's steps; time between epochs does not count."""
    seconds: list[float] = []
    losses: list[float] = []
    loss = n = 0.0
    start = time.perf_counter()
    for event in training.events():
        if not isinstance(event, StepInfo):
            loss = n = 0.0
            start = time.perf_counter()
            continue
        loss += event.loss * event.n_examples
        n += event.n_examples
        if event.step % training.steps_per_epoch == 0:
            seconds.append(time.perf_counter() - start)
            losses.append(loss / n)
            if len(seconds) == epochs:
                break
    return seconds, losses


def _work(prepared: Prepared, contestant: Contestant, installed: FastParts) -> Work:
    encoder = prepared.encoder
    form: LastBlock = "whole"
    if "one query in the last layer" in installed.parts:
        engine, plain = prepared.config.engine, encoder.forms[-1].has_plain_heads
        form = "one query" if plain and engine.last_layer != "keys" and engine.linear != "off" else "keys"
    if contestant.method == "full":
        return Work(True, last_block=form)
    spec, options = encoder.spec, prepared.options.model_dump()
    inputs = {*spec.query, *spec.key, *spec.value}
    start = f"{spec.blocks}.0."
    shapes = {
        name.removeprefix(start): tuple(encoder.model.get_submodule(name).weight.shape[::-1])
        for name in encoder.linears
        if name.startswith(start)
    }
    names = {*spec.query, *spec.value} if options["target_modules"] == "query-value" else set(shapes)
    k = contestant.top_layers(encoder.n_layers)
    first = 0 if k is None else encoder.n_layers - k
    return Work(
        False,
        rank=options["r"],
        adapted=tuple(shapes[name] for name in sorted(names)),
        adapted_inputs=tuple(shapes[name] for name in sorted(names & inputs)),
        first_trained=first,
        first_run=first,
        last_block=form,
    )


def _labelled(rows: Rows, problem: Problem) -> Labelled:
    return Labelled(texts_of(rows, problem.pad_id), rows.labels)


def _one_of_each(problem: Problem) -> Rows:
    """Return up to one validation row per class, so that caching their hidden states costs almost nothing."""
    rows = problem.train
    n = 1 + max(int(np.argmax(rows.labels == label)) for label in np.unique(rows.labels))
    return rows.first(n)
