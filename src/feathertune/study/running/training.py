"""One trained method: prepare, train, restore the best epoch, and only then open the test split; ship the weights.

Where no rows are kept for validation, the last epoch is taken for the best.

Not for baselines, which train no encoder: see `feathertune.study.running.runs`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from feathertune.bundle import DataInfo, Description, save_bundle
from feathertune.engine.fast_path import fast_parts
from feathertune.engine.predict import predict_logits
from feathertune.engine.training.checkpoint import Checkpoints
from feathertune.engine.training.distributed import ALONE, Group
from feathertune.engine.training.gradient import Labelled
from feathertune.engine.training.loop import EpochInfo, StepInfo, Training
from feathertune.engine.training.optim import trained_parameters
from feathertune.engine.training.regression_head import put_into_unit
from feathertune.methods import Method, Options, plain_name
from feathertune.methods.targets import LayeredOptions
from feathertune.records import DataRecord, Seconds
from feathertune.runtime import seed_everything, stopwatch
from feathertune.study.observe import Observer
from feathertune.study.running.data_record import summary_of
from feathertune.study.running.prepare import begins_with_head, job_of, prepared_model, start_head, training_of
from feathertune.study.running.run_result import Outcome
from feathertune.study.running.top_layers_sweep import choose_depth
from feathertune.study.running.workbench import Workbench

if TYPE_CHECKING:
    from torch import nn

    from feathertune.encoders import LoadedEncoder

# A training step costs about three forward passes: forward, gradients of inputs, gradients of weights.
TRAINING_COST = 3.0


def train_and_test(
    method: Method,
    options: Options,
    seed: int,
    bench: Workbench,
    observer: Observer,
    *,
    log: Path,
    bundle: Path | None,
    checkpoints: Checkpoints | None = None,
    group: Group = ALONE,
) -> Outcome:
    """Train an encoder, restore its best epoch, and only then open the test split.

    Args:
        method: The method.
        options: Its options.
        seed: Of the head, the adapter, the order of examples and dropout.
        bench: Data, encoder and machine.
        observer: Is told how far it is.
        log: Where ``metrics.jsonl`` goes.
        bundle: Where the bundle goes; ``None`` keeps no weights.
        checkpoints: Where the state is kept as it goes; the training goes on from the last one found there.
        group: The processes that train together; its leader writes.
    """
    config = bench.config
    resumes = checkpoints is not None and checkpoints.last is not None
    head_first = begins_with_head(method, config.train) and not resumes
    job = job_of(bench, seed)
    # Made before the watch starts: whoever made them, each run is charged with what they cost.
    of_base = head_first and not method.rereads(options)
    features_s = bench.features("train", lambda _: None).seconds if of_base else 0.0
    with stopwatch() as load:
        tried: dict[int, float] = {}
        if isinstance(options, LayeredOptions) and options.top_layers == "auto":
            options, tried = choose_depth(method, options, seed, bench)
            leaders = int(group.sum(np.array([options.top_layers if group.leads else 0]))[0])
            options = options.model_copy(update={"top_layers": leaders})
            seed_everything(seed)
        encoder, model = prepared_model(method, options, job, bench)
    with stopwatch() as head:
        if head_first:
            start_head(encoder, method, options, seed, bench)
    with (
        fast_parts(encoder, config.engine, bench.runtime) as installed,
        bench.activations.inputs(encoder, model, {n: t for n, t in bench.encoded.items() if len(t)}) as inputs,
    ):
        training = training_of(
            method,
            options,
            model,
            job,
            Labelled(inputs.texts["train"], bench.split("train").labels, bench.objective),
            # Where no rows are kept for it, those are none.
            Labelled(inputs.texts.get("validation", bench.encoded["validation"]), bench.split("validation").labels),
            settings=config.train,
            runtime=bench.runtime,
            group=group,
            task=bench.task,
        )
        if checkpoints is not None and resumes:
            training.load_state(checkpoints.load())
            _tell_where(training, len(bench.encoded["validation"]), observer)
        seconds_before = training.position.seconds
        with stopwatch() as train:
            losses = _follow(training, log, observer, checkpoints if group.leads else None, bench)
            best = training.restore_best()
            put_into_unit(encoder, bench.objective)
        train.seconds += seconds_before
        with stopwatch() as evaluate:
            logits = np.zeros((0, len(bench.splits.labels)))
            if "test" in inputs.texts:
                logits = predict_logits(
                    model,
                    inputs.texts["test"],
                    token_budget=config.train.token_budget,
                    runtime=bench.runtime,
                    on_texts=observer.advanced,
                    group=group,
                )
    test = bench.task.probabilities(logits)
    hyperparameters = {
        **options.model_dump(mode="json"),
        **_peft_rank(model),
        **_settings(bench),
        "epochs": training.n_epochs,
        "engine": installed.parts,
        "frontier": inputs.split_point,
        **({"depths_tried": tried} if tried else {}),
    }
    fields: dict[str, Any] = {
        "trainable_parameters": sum(p.numel() for p in trained_parameters(model)),
        "total_parameters": sum(p.numel() for p in model.parameters()),
        "adapter_bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
        "epochs": training.position.epochs_done,
        "best_epoch": best.epoch,
        "steps": training.position.steps_done,
        **losses,
        "tokens_per_second": training.position.tokens_seen / train.seconds,
        "examples_per_second": training.position.examples_seen / train.seconds,
        "hyperparameters": hyperparameters,
        "notes": [*bench.notes, *installed.notes, *inputs.notes, *training.notes],
    }
    with stopwatch() as ship:
        if bundle is not None and group.leads:
            fields["adapter_bytes"] = _ship(
                bundle, model, encoder, method, hyperparameters, bench, test=test, best=best
            )
    parts = {
        "tokenize": sum(bench.tokenize_seconds.values()),
        "cache": inputs.seconds + features_s,
        "head": head.seconds,
        "train": train.seconds,
        "evaluate": evaluate.seconds,
    }
    fields["seconds"] = Seconds(total=load.seconds + sum(parts.values()), **parts, ship=ship.seconds)
    return Outcome(test=test, validation=best.validation_probabilities, fields=fields)


def _ship(
    bundle: Path,
    model: nn.Module,
    encoder: LoadedEncoder,
    method: Method,
    hyperparameters: dict[str, Any],
    bench: Workbench,
    *,
    test: np.ndarray,
    best: EpochInfo,
) -> int:
    """Write the bundle, proven by reloading it.

    Returns:
        Bytes of its weights.
    """
    task = bench.task
    threshold = task.fit_thresholds(bench.split("validation").labels, best.validation_probabilities)
    model.to("cpu")
    if method.finish is not None:
        method.finish(model)
    description = Description(
        method=plain_name(method.name),  # the options are among the hyperparameters
        max_length=bench.config.data.max_length,
        reading=bench.config.data.reading,
        text_columns=bench.splits.text_columns,
        metrics={
            **({"test": task.evaluate(bench.split("test").labels, test, threshold).model_dump()} if len(test) else {}),
            **({} if best.validation is None else {"validation": best.validation.model_dump()}),
        },
        task=task.name,
        threshold=None if threshold is None else threshold.tolist(),
        label_separator=bench.config.data.label_separator,
        numbers=summary_of(bench.split("train").labels) if bench.splits.numbers else None,
        data=_data_info(bench.data),
        hyperparameters=hyperparameters,
    )
    save_bundle(bundle, model, encoder, description)
    return sum(path.stat().st_size for path in bundle.glob("*.safetensors"))


def _data_info(data: DataRecord) -> DataInfo:
    """What a bundle says of its data; of a file or folder the name, since a path is this machine's."""
    scheme, _, rest = data.source.partition(":")
    return DataInfo(
        source=data.source if scheme in ("sample", "hub") else Path(rest or scheme).name,
        n_train=data.n_train,
        n_validation=data.n_validation,
        n_test=data.n_test,
        truncated_fraction=data.truncated_fraction,
        unread_fraction=data.unread_fraction,
    )


def _tell_where(training: Training, n_validation: int, observer: Observer) -> None:
    """Say where a training goes on, and count the work before that as done."""
    at = training.position
    observer.skipped(TRAINING_COST * at.examples_seen + n_validation * at.epochs_done)
    observer.said(f"Going on after step {at.steps_done}, in epoch {at.epochs_done + 1}.")


def _follow(
    training: Training, log: Path, observer: Observer, checkpoints: Checkpoints | None, bench: Workbench
) -> dict[str, list[float]]:
    """Train to the end; write ``metrics.jsonl`` line by line, keep checkpoints, and tell how far it is.

    Returns:
        The losses of each epoch, as fields of the record.
    """
    said, score, objective = "", bench.task.primary, bench.objective
    losses: dict[str, list[float]] = {"train_losses": [], "validation_losses": []}
    with log.open("w", encoding="utf-8") as file:
        for event in training.events():
            if isinstance(event, StepInfo):
                line = {
                    "event": "step",
                    "step": event.step,
                    "epoch": event.epoch,
                    "loss": event.loss,
                    "learning_rate": event.learning_rate,
                    "seconds": event.seconds,
                }
                observer.advanced(TRAINING_COST * event.n_examples, f"epoch {event.epoch}, loss {event.loss:.3f}{said}")
            else:
                scores = event.validation
                validation_loss = None if scores is None else objective.comparable(scores.loss)
                line = {
                    "event": "epoch",
                    "epoch": event.epoch,
                    "train_loss": event.train_loss,
                    "validation_loss": validation_loss,
                    "validation_score": None if scores is None else score.of(scores),
                    "seconds": event.seconds,
                }
                losses["train_losses"].append(event.train_loss)
                if scores is not None and validation_loss is not None:
                    losses["validation_losses"].append(validation_loss)
                    said = f", validation {score.format.score(score.of(scores))}"
                observer.advanced(0 if scores is None else scores.n, f"epoch {event.epoch}{said}")
            file.write(json.dumps(line) + "\n")
            file.flush()
            observer.measured(line)
            if checkpoints is not None:
                checkpoints.offer(training.state, epoch_end=isinstance(event, EpochInfo))
    return losses


def _peft_rank(model: nn.Module) -> dict[str, Any]:
    """PEFT's own ``r`` where feathertune derived it from another option."""
    configs = getattr(model, "peft_config", {})
    ranks = [rank for config in configs.values() if (rank := getattr(config, "r", None)) is not None]
    return {"r": ranks[0]} if ranks else {}


def _settings(bench: Workbench) -> dict[str, Any]:
    train = bench.config.train.said(exclude=("learning_rate", "checkpoint_every_s"))
    return {**train, "dtype": bench.runtime.dtype, "attention": bench.runtime.attention}
