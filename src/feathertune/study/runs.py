"""One run: from its `RunSpec` and the workbench to a `RunRecord` and its files.

A run that breaks becomes a failed record with its reason; a full disk and Ctrl-C are not the method's fault and go up.
"""

from __future__ import annotations

import io
import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feathertune.bundle import save_bundle
from feathertune.engine.head import head_logits
from feathertune.engine.loop import EpochInfo, StepInfo, Training
from feathertune.engine.optim import trained_parameters
from feathertune.engine.predict import predict_logits, softmax
from feathertune.methods import BASELINES, METHODS, Baseline, Method, Options
from feathertune.metrics import score
from feathertune.records import RunRecord, Seconds
from feathertune.runtime import PeakMemory, seed_everything, stopwatch
from feathertune.storage import write_atomic
from feathertune.study.observe import Observer
from feathertune.study.plan import RunSpec
from feathertune.study.workbench import SplitName, Workbench

if TYPE_CHECKING:
    from torch import nn

    from feathertune.encoders import LoadedEncoder

# A training step costs about three forward passes: forward, gradients of inputs, gradients of weights.
TRAINING_COST = 3.0


@dataclass
class Outcome:
    """What a run gives back beside its files; probabilities are ``(N, C)`` of the test and validation rows."""

    test: np.ndarray
    validation: np.ndarray
    fields: dict[str, Any]


def expected_work(spec: RunSpec, bench: Workbench) -> float:
    """Work of a run, in texts that pass the encoder once."""
    n = {name: len(texts) for name, texts in bench.encoded.items()}
    if spec.method in METHODS:
        epochs = bench.config.train.epochs
        return epochs * (TRAINING_COST * n["train"] + n["validation"]) + n["test"]
    return float(sum(n[name] for name in _splits_read(BASELINES[spec.method])))


def execute(spec: RunSpec, bench: Workbench, folder: Path, observer: Observer) -> RunRecord:
    """Do one run.

    Args:
        spec: What to do.
        bench: Data, encoder and machine.
        folder: The study folder; the run writes into ``runs/<id>``.
        observer: Is told how far it is.

    Returns:
        The record, which is also written as ``run.json``; failed where the method broke.

    Raises:
        OSError: If the files cannot be written.
    """
    run_folder = folder / "runs" / spec.id
    run_folder.mkdir(parents=True, exist_ok=True)
    with stopwatch() as watch:
        try:
            with PeakMemory(bench.runtime.device) as memory:
                outcome = _run(spec, bench, run_folder, observer)
            record = _complete(spec, bench, outcome, memory.peak_bytes, folder, run_folder)
        except OSError:
            raise
        except Exception as error:
            write_atomic(run_folder / "error.txt", traceback.format_exc())
            record = RunRecord(
                id=spec.id,
                method=spec.method,
                kind=spec.kind,
                seed=spec.seed,
                status="failed",
                error=f"{type(error).__name__}: {error}",
                seconds=Seconds(total=0.0),
                hyperparameters=dict(spec.options),
            )
    if record.status == "failed":
        record.seconds.total = watch.seconds
    write_atomic(run_folder / "run.json", record.model_dump_json(indent=1) + "\n")
    return record


def _run(spec: RunSpec, bench: Workbench, run_folder: Path, observer: Observer) -> Outcome:
    seed_everything(spec.seed)
    if spec.method in METHODS:
        method = METHODS[spec.method]
        options = method.options.model_validate(spec.options)
        keep = method.kind == "peft" or bench.config.study.keep_full
        return train_and_test(
            method,
            options,
            spec.seed,
            bench,
            observer,
            log=run_folder / "metrics.jsonl",
            bundle=run_folder / "bundle" if keep else None,
        )
    baseline = BASELINES[spec.method]
    if baseline.reads == "encoder":
        return _run_foundation(spec.seed, bench, observer)
    return _run_baseline(baseline, bench, observer)


def _complete(
    spec: RunSpec, bench: Workbench, outcome: Outcome, peak_bytes: int, folder: Path, run_folder: Path
) -> RunRecord:
    labels = bench.split("test").labels
    predictions = run_folder / "predictions.parquet"
    write_predictions(predictions, labels, outcome.test)
    fields = outcome.fields
    fields.setdefault("peak_memory_bytes", peak_bytes)
    fields["peak_memory_bytes"] = max(fields["peak_memory_bytes"], peak_bytes)
    trainable, total = fields.get("trainable_parameters", 0), fields.get("total_parameters", 0)
    return RunRecord(
        id=spec.id,
        method=spec.method,
        kind=spec.kind,
        seed=spec.seed,
        status="complete",
        test=score(labels, outcome.test),
        validation=score(bench.split("validation").labels, outcome.validation),
        trainable_percent=100 * trainable / total if total else 0.0,
        predictions=predictions.relative_to(folder).as_posix(),
        metrics=_existing(run_folder / "metrics.jsonl", folder),
        bundle=_existing(run_folder / "bundle", folder),
        **fields,
    )


def _existing(path: Path, folder: Path) -> str | None:
    return path.relative_to(folder).as_posix() if path.exists() else None


def _splits_read(baseline: Baseline) -> tuple[SplitName, ...]:
    return ("validation", "test") if baseline.reads == "encoder" else ("train", "validation", "test")


def _run_baseline(baseline: Baseline, bench: Workbench, observer: Observer) -> Outcome:
    """Fit a baseline on texts or frozen features."""
    assert baseline.fit is not None, "a baseline that reads texts or features is fitted"
    names = _splits_read(baseline)
    cache_s = feature_test_s = tokenize_s = 0.0
    peak_bytes = 0
    inputs: dict[SplitName, Any] = {}
    for name in names:
        if baseline.reads == "features":
            found = bench.features(name, observer.advanced)
            inputs[name] = {"read": found.read, "mean": found.mean}
            peak_bytes = max(peak_bytes, found.peak_memory_bytes)
            tokenize_s += bench.tokenize_seconds[name]
            if name == "test":
                feature_test_s = found.seconds
            else:
                cache_s += found.seconds
        else:
            inputs[name] = bench.split(name).texts
    with stopwatch() as train:
        fitted = baseline.fit(
            inputs["train"],
            bench.split("train").labels,
            inputs["validation"],
            bench.split("validation").labels,
            len(bench.splits.labels),
        )
    with stopwatch() as evaluate:
        test = fitted.predict_proba(inputs["test"])
    evaluate_s = evaluate.seconds + feature_test_s
    n_base = bench.base.n_parameters if baseline.reads == "features" else 0
    return Outcome(
        test=test,
        validation=fitted.predict_proba(inputs["validation"]),
        fields={
            "seconds": Seconds(
                total=tokenize_s + cache_s + train.seconds + evaluate_s,
                tokenize=tokenize_s,
                cache=cache_s,
                train=train.seconds,
                evaluate=evaluate_s,
            ),
            "trainable_parameters": fitted.n_parameters,
            "total_parameters": fitted.n_parameters + n_base,
            "adapter_bytes": 4 * fitted.n_parameters,
            "peak_memory_bytes": peak_bytes,
            "hyperparameters": fitted.chosen,
        },
    )


def _run_foundation(seed: int, bench: Workbench, observer: Observer) -> Outcome:
    """Score the pretrained encoder with an untrained head."""
    import torch

    encoder = bench.load_encoder(seed)
    found = {name: bench.features(name, observer.advanced) for name in ("validation", "test")}
    with stopwatch() as evaluate, torch.inference_mode():
        encoder.model.eval()
        logits = {
            name: head_logits(encoder, torch.from_numpy(features.read)).float().numpy()
            for name, features in found.items()
        }
    tokenize_s = bench.tokenize_seconds["test"]
    evaluate_s = evaluate.seconds + found["test"].seconds
    return Outcome(
        test=softmax(logits["test"]),
        validation=softmax(logits["validation"]),
        fields={
            "seconds": Seconds(total=tokenize_s + evaluate_s, tokenize=tokenize_s, evaluate=evaluate_s),
            "total_parameters": encoder.n_parameters,
            "peak_memory_bytes": found["test"].peak_memory_bytes,
        },
    )


def train_and_test(
    method: Method,
    options: Options,
    seed: int,
    bench: Workbench,
    observer: Observer,
    *,
    log: Path,
    bundle: Path | None,
) -> Outcome:
    """Train an encoder, restore its best epoch, and only then open the test split.

    Args:
        method: The method, and `options` its options.
        seed: Of the head, the adapter, the order of examples and dropout.
        bench: Data, encoder and machine.
        observer: Is told how far it is.
        log: Where ``metrics.jsonl`` goes.
        bundle: Where the bundle goes; ``None`` keeps no weights.
    """
    config = bench.config
    with stopwatch() as load:
        encoder = bench.load_encoder(seed)
        model = method.prepare(encoder, options, seed)
    training = Training(
        model,
        bench.labelled("train"),
        bench.labelled("validation"),
        settings=config.train,
        learning_rate=options.learning_rate,
        seed=seed,
        runtime=bench.runtime,
    )
    with stopwatch() as train:
        _follow(training, log, observer.advanced)
        best = training.restore_best()
    with stopwatch() as evaluate:
        logits = predict_logits(
            model,
            bench.encoded["test"],
            token_budget=config.train.token_budget,
            runtime=bench.runtime,
            on_texts=observer.advanced,
        )
    test = softmax(logits)
    hyperparameters = {**options.model_dump(mode="json"), **_peft_rank(model), **_settings(bench)}
    fields: dict[str, Any] = {
        "trainable_parameters": sum(p.numel() for p in trained_parameters(model)),
        "total_parameters": sum(p.numel() for p in model.parameters()),
        "adapter_bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
        "epochs": training.epochs_done,
        "best_epoch": best.epoch,
        "steps": training.steps_done,
        "tokens_per_second": training.tokens_seen / train.seconds,
        "examples_per_second": training.examples_seen / train.seconds,
        "hyperparameters": hyperparameters,
        "notes": list(bench.notes),
        "seconds": _seconds(bench, load.seconds, train.seconds, evaluate.seconds),
    }
    if bundle is not None:
        fields["adapter_bytes"] = _ship(bundle, model, encoder, method, hyperparameters, bench, test=test, best=best)
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
    model.to("cpu")
    save_bundle(
        bundle,
        model=model,
        encoder=encoder,
        method=method.name,
        max_length=bench.config.data.max_length,
        text_columns=[bench.config.data.text_column or "text"],
        metrics={
            "test": score(bench.split("test").labels, test).model_dump(),
            "validation": best.validation.model_dump(),
        },
        hyperparameters=hyperparameters,
    )
    return sum(path.stat().st_size for path in bundle.glob("*.safetensors"))


def _follow(training: Training, log: Path, advanced: Callable[[float, str], None]) -> None:
    """Train to the end; write ``metrics.jsonl`` line by line and tell how far it is."""
    said = ""
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
                advanced(TRAINING_COST * event.n_examples, f"epoch {event.epoch}, loss {event.loss:.3f}{said}")
            else:
                line = {
                    "event": "epoch",
                    "epoch": event.epoch,
                    "train_loss": event.train_loss,
                    "validation_loss": event.validation.log_loss,
                    "validation_accuracy": event.validation.accuracy,
                    "seconds": event.seconds,
                }
                said = f", validation {event.validation.accuracy:.1%}"
                advanced(event.validation.n, f"epoch {event.epoch}{said}")
            file.write(json.dumps(line) + "\n")
            file.flush()


def _peft_rank(model: nn.Module) -> dict[str, Any]:
    """PEFT's own ``r`` where feathertune derived it from another option."""
    configs = getattr(model, "peft_config", {})
    return {"r": r for c in configs.values() if (r := getattr(c, "r", None)) is not None}


def _settings(bench: Workbench) -> dict[str, Any]:
    train = bench.config.train.model_dump(exclude={"learning_rate"})
    return {**train, "dtype": bench.runtime.dtype, "attention": bench.runtime.attention}


def _seconds(bench: Workbench, load_s: float, train_s: float, evaluate_s: float) -> Seconds:
    tokenize_s = sum(bench.tokenize_seconds.values())
    return Seconds(
        total=tokenize_s + load_s + train_s + evaluate_s, tokenize=tokenize_s, train=train_s, evaluate=evaluate_s
    )


def write_predictions(path: Path, labels: np.ndarray, probabilities: np.ndarray) -> None:
    """Write ``predictions.parquet``: row, label, predicted, probabilities."""
    n, n_classes = probabilities.shape
    table = pa.table(
        {
            "row": pa.array(np.arange(n, dtype=np.int64)),
            "label": pa.array(labels.astype(np.int32)),
            "predicted": pa.array(probabilities.argmax(axis=1).astype(np.int32)),
            "probabilities": pa.FixedSizeListArray.from_arrays(
                pa.array(probabilities.astype(np.float32).reshape(-1)), n_classes
            ).cast(pa.list_(pa.float32())),
        }
    )
    write_table(path, table)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a parquet file whole or not at all."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_atomic(path, buffer.getvalue())
