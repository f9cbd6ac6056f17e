"""Run one trained method in four steps: prepare, train and restore the best epoch, evaluate, ship the weights.

Test rows are not scored until the best epoch is restored. Without validation rows, the last epoch is the best.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from feathertune.baselines.fusion import FusedWords
from feathertune.bundle import DataInfo, Description, save_bundle
from feathertune.data.sources.registry import without_path
from feathertune.data.tokens.encode import EncodedTexts
from feathertune.engine.fast_path import fast_parts
from feathertune.engine.predict import predict_logits
from feathertune.engine.prefix_cache.store import Inputs
from feathertune.engine.training.checkpoint import Checkpoints
from feathertune.engine.training.distributed import ALONE, Group
from feathertune.engine.training.gradient import Labelled
from feathertune.engine.training.loop import EpochInfo, StepInfo, Training
from feathertune.engine.training.regression_head import put_into_unit
from feathertune.engine.training.state import trained_by_name
from feathertune.methods import without_options
from feathertune.records import Seconds
from feathertune.runtime import seed_everything, stopwatch
from feathertune.study.observe import Observer
from feathertune.study.run_spec import RunSpec
from feathertune.study.running.data_record import summary_of
from feathertune.study.running.fuse import fuse_words, fused_probabilities
from feathertune.study.running.prepare import (
    ReadyModel,
    begins_with_head,
    method_of,
    ready_model,
    start_head,
    training_of,
)
from feathertune.study.running.run_result import RunResult, score_rows
from feathertune.study.running.top_layers_sweep import choose_depth
from feathertune.study.running.workbench import Prepared
from feathertune.tasks import Score
from feathertune.tasks.losses import Objective

# A training step costs about three forward passes: forward, gradients of inputs, gradients of weights.
TRAINING_COST = 3.0


def epoch_work(n_train: int, n_validation: int) -> float:
    """Return the work of an epoch, in forward passes of one text."""
    return TRAINING_COST * n_train + n_validation


@dataclass
class TrainingLog:
    """Log of one training: writes ``metrics.jsonl`` and collects each epoch's losses."""

    path: Path
    observer: Observer
    checkpoints: Checkpoints | None
    score: Score
    objective: Objective
    train_losses: list[float] = field(default_factory=list)
    validation_losses: list[float] = field(default_factory=list)
    _said: str = ""

    def follow(self, training: Training) -> None:
        """Train to the end, writing log lines and checkpoints and notifying the observer on the way."""
        with self.path.open("w", encoding="utf-8") as file:
            for event in training.events():
                line = self._step(event) if isinstance(event, StepInfo) else self._epoch(event)
                file.write(json.dumps(line) + "\n")
                file.flush()
                self.observer.measured(line)
                if self.checkpoints is not None:
                    self.checkpoints.offer(training.state, epoch_end=isinstance(event, EpochInfo))

    def _step(self, event: StepInfo) -> dict[str, Any]:
        said = f"epoch {event.epoch}, loss {event.loss:.3f}{self._said}"
        line = {"event": "step", **asdict(event)}
        self.observer.advanced(TRAINING_COST * line.pop("n_examples"), said)
        return line

    def _epoch(self, event: EpochInfo) -> dict[str, Any]:
        scores = event.validation
        validation_loss = None if scores is None else self.objective.comparable(scores.loss)
        score = None if scores is None else self.score.of(scores)
        line = {
            "event": "epoch",
            "epoch": event.epoch,
            "train_loss": event.train_loss,
            "validation_loss": validation_loss,
            "validation_score": score,
            "seconds": event.seconds,
        }
        self.train_losses.append(event.train_loss)
        if validation_loss is not None:
            self.validation_losses.append(validation_loss)
            self._said = f", validation {self.score.format.score(score)}"
        self.observer.advanced(0 if scores is None else scores.n, f"epoch {event.epoch}{self._said}")
        return line


@dataclass(frozen=True)
class Outputs:
    """Files that a training writes; None for `bundle` or `checkpoints` writes no weights or no checkpoints."""

    log: Path
    bundle: Path | None = None
    checkpoints: Checkpoints | None = None


@dataclass(frozen=True)
class _Run:
    spec: RunSpec
    prepared: Prepared
    observer: Observer
    outputs: Outputs
    group: Group

    @property
    def last(self) -> Checkpoints | None:
        """The checkpoints, if the training resumes from one."""
        found = self.outputs.checkpoints
        return None if found is None or found.last is None else found


@dataclass(frozen=True)
class _Started:
    """A model ready to train, and the seconds it took to prepare; `depths_tried` is empty without a sweep."""

    ready: ReadyModel
    depths_tried: Mapping[int, float]
    features_seconds: float
    load_seconds: float
    head_seconds: float


@dataclass(frozen=True)
class _Trained:
    training: Training
    best: EpochInfo
    log: TrainingLog
    seconds: float
    fused: FusedWords | None = None


def train_and_test(
    spec: RunSpec, prepared: Prepared, observer: Observer, outputs: Outputs, group: Group = ALONE
) -> RunResult:
    """Train a run's method, test it and ship its weights; in a group of processes, only the leader writes files."""
    run, bench = _Run(spec, prepared, observer, outputs, group), prepared.bench
    started = _prepare(run)
    ready, rows = started.ready, {name: texts for name, texts in bench.encoded.items() if len(texts)}
    with (
        fast_parts(ready.encoder, prepared.study.config.engine, bench.runtime) as installed,
        bench.activations.inputs(ready.encoder, ready.model, rows) as inputs,
    ):
        trained = _train(run, ready, inputs)
        result = _evaluate(run, started, trained, inputs)
    decided_by = {**result.hyperparameters, "engine": installed.parts, "frontier": inputs.split_point}
    if started.depths_tried:
        decided_by["depths_tried"] = started.depths_tried
    notes = [*bench.notes, *installed.notes, *inputs.notes, *trained.training.notes]
    result = replace(result, hyperparameters=decided_by, notes=notes)
    if outputs.bundle is None or not group.leads:
        return result
    return _ship(run, ready, result, outputs.bundle, trained.fused)


def _prepare(run: _Run) -> _Started:
    """Load and prepare the model, and fit its head unless the training resumes from a checkpoint."""
    spec, study, bench, group = run.spec, run.prepared.study, run.prepared.bench, run.group
    method, options = method_of(spec)
    begins = begins_with_head(method, study.config.train)
    head_first = begins and run.last is None
    # Computed before the timer starts; each run is charged their full cost, whichever run computed them.
    of_base = head_first and not method.rereads(options)
    if begins and (bench.has_read_training_texts or not of_base):
        run.observer.skipped(len(bench.encoded["train"]))
    features_s = bench.features("train", run.observer.advanced).seconds if of_base else 0.0
    with stopwatch() as load:
        tried: dict[int, float] = {}
        if spec.sweeps_depth:
            depth, tried = choose_depth(spec, run.prepared)
            spec = spec.at_depth(int(group.sum(np.array([depth if group.leads else 0]))[0]))
            seed_everything(spec.seed)
        ready = ready_model(spec, study.config.train, bench)
    with stopwatch() as head:
        if head_first:
            start_head(ready, bench)
    return _Started(ready, tried, features_s, load.seconds, head.seconds)


def _train(run: _Run, ready: ReadyModel, inputs: Inputs) -> _Trained:
    study, bench, validation = run.prepared.study, run.prepared.bench, run.prepared.bench.encoded["validation"]
    training = training_of(
        ready,
        Labelled(inputs.texts["train"], bench.splits["train"].labels, ready.objective),
        # There may be no validation rows.
        Labelled(inputs.texts.get("validation", validation), bench.splits["validation"].labels),
        settings=study.config.train,
        runtime=bench.runtime,
        task=study.task,
        group=run.group,
    )
    if run.last is not None:
        training.load_state(run.last.load())
        at = training.position
        run.observer.skipped(TRAINING_COST * at.examples_seen + len(validation) * at.epochs_done)
        run.observer.said(f"Resuming after step {at.steps_done}, in epoch {at.epochs_done + 1}.")
    checkpoints = run.outputs.checkpoints if run.group.leads else None
    log = TrainingLog(run.outputs.log, run.observer, checkpoints, study.task.primary, ready.objective)
    seconds_before = training.position.seconds
    with stopwatch() as watch:
        log.follow(training)
        best = training.restore_best()
        put_into_unit(ready.encoder, ready.objective)
        fused = None
        if ready.method.is_fused:
            logits_of = partial(_logits_of, run, ready.model)
            fused = fuse_words(run.prepared, logits_of, best.validation_probabilities)
    return _Trained(training, best, log, watch.seconds + seconds_before, fused)


def _logits_of(run: _Run, model: nn.Module, texts: EncodedTexts) -> np.ndarray:
    return predict_logits(
        model,
        texts,
        token_budget=run.prepared.study.config.train.token_budget,
        runtime=run.prepared.bench.runtime,
        on_texts=run.observer.advanced,
        group=run.group,
    )


def _evaluate(run: _Run, started: _Started, trained: _Trained, inputs: Inputs) -> RunResult:
    study, bench, model = run.prepared.study, run.prepared.bench, started.ready.model
    with stopwatch() as watch:
        logits: NDArray[np.floating] = np.zeros((0, len(bench.splits.labels)))
        if "test" in inputs.texts:
            logits = _logits_of(run, model, inputs.texts["test"])
        validation = trained.best.validation_probabilities
        test = study.task.probabilities(logits)
        if (fused := trained.fused) is not None:
            held_out = study.task.likelihood.logits(validation) if len(validation) else logits[:0]
            validation = fused_probabilities(run.prepared, fused, "validation", held_out)
            test = fused_probabilities(run.prepared, fused, "test", logits)
    position, n_words = trained.training.position, 0 if fused is None else fused.words.n_parameters
    parts = {
        "tokenize": sum(bench.tokenize_seconds.values()),
        "cache": inputs.seconds + started.features_seconds,
        "head": started.head_seconds,
        "train": trained.seconds,
        "evaluate": watch.seconds,
    }
    return RunResult(
        test=test,
        validation=validation,
        scores=score_rows(study.task, bench, test, validation),
        seconds=Seconds(total=started.load_seconds + sum(parts.values()), **parts),
        trainable_parameters=sum(p.numel() for p in trained_by_name(model).values()) + n_words,
        total_parameters=sum(p.numel() for p in model.parameters()) + n_words,
        adapter_bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
        hyperparameters={
            **_hyperparameters(run, started.ready, trained.training),
            **({} if fused is None else {"fusion": asdict(fused.fusion)}),
        },
        training={
            "epochs": position.epochs_done,
            "best_epoch": trained.best.epoch,
            "steps": position.steps_done,
            "train_losses": trained.log.train_losses,
            "validation_losses": trained.log.validation_losses,
            "tokens_per_second": position.tokens_seen / trained.seconds,
            "examples_per_second": position.examples_seen / trained.seconds,
        },
    )


def _ship(run: _Run, ready: ReadyModel, result: RunResult, bundle: Path, fused: FusedWords | None) -> RunResult:
    """Write the bundle, verified by reloading it; return the result with the bundle's size and seconds."""
    bench, scores = run.prepared.bench, result.scores
    known = bench.base.model_dump() | bench.data.model_dump() | {"source": without_path(bench.data.source)}
    with stopwatch() as watch:
        ready.model.to("cpu")
        if ready.method.finish is not None:
            ready.method.finish(ready.model)
        description = Description(
            method=without_options(ready.method.name),  # the options are in the hyperparameters
            max_length=bench.data.max_length,
            reading=bench.data.reading,
            text_columns=bench.splits.text_columns,
            metrics=scores.metrics,
            task=run.prepared.study.task.name,
            threshold=None if scores.thresholds is None else scores.thresholds.tolist(),
            label_separator=run.prepared.study.config.data.label_separator,
            numbers=summary_of(bench.splits["train"].labels) if bench.splits.kind.numbers else None,
            data=DataInfo(**{key: known[key] for key in DataInfo.model_fields}),
            hyperparameters=result.hyperparameters,
        )
        save_bundle(bundle, ready.model, ready.encoder, description, fused)
    return replace(
        result,
        adapter_bytes=sum(path.stat().st_size for path in bundle.glob("*.safetensors")),
        seconds=result.seconds.model_copy(update={"ship": watch.seconds}),
    )


def _hyperparameters(run: _Run, ready: ReadyModel, training: Training) -> dict[str, Any]:
    return {
        **ready.options.model_dump(mode="json"),
        **_peft_rank(ready.model),
        **run.prepared.study.config.train.model_dump(mode="json", exclude={"learning_rate", "checkpoint_every_s"}),
        "dtype": run.prepared.bench.runtime.dtype,
        "attention": run.prepared.bench.runtime.attention,
        "epochs": training.n_epochs,
    }


def _peft_rank(model: nn.Module) -> dict[str, Any]:
    """Return PEFT's own ``r`` if feathertune derived it from another option."""
    configs = getattr(model, "peft_config", {})
    ranks = [rank for config in configs.values() if (rank := getattr(config, "r", None)) is not None]
    return {"r": ranks[0]} if ranks else {}
