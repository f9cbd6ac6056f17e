"""One run: from its `RunSpec` and the workbench to a `RunRecord` and its files.

A run that breaks becomes a failed record with its reason; a full disk and Ctrl-C are not the method's fault and go up.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.metrics  # noqa: F401 - no run shall be charged for loading what scores it
import torch

from feathertune.baselines import BASELINES, Baseline
from feathertune.baselines.linear import Rows
from feathertune.data.sources.collector import SPLITS, SplitName
from feathertune.engine.training.head import head_logits
from feathertune.methods import method_named
from feathertune.records import METRICS_FILE, PREDICTIONS_FILE, RunRecord, Seconds
from feathertune.records.cost_estimate import CostRow
from feathertune.runtime import PeakMemory, seed_everything, stopwatch
from feathertune.storage import write_atomic
from feathertune.study.observe import Observer
from feathertune.study.planning.plan import RunSpec
from feathertune.study.running.prepare import begins_with_head
from feathertune.study.running.run_files import write_predictions
from feathertune.study.running.run_result import Outcome
from feathertune.study.running.training import TRAINING_COST, train_and_test
from feathertune.study.running.workbench import Workbench

_READ_UNTRAINED: tuple[SplitName, ...] = ("validation", "test")


def expected_work(spec: RunSpec, bench: Workbench) -> float:
    """Work of a run, in texts that pass the encoder once."""
    n = {name: len(texts) for name, texts in bench.encoded.items()}
    n["train"] = spec.train_rows or n["train"]
    if spec.method not in BASELINES:
        epochs = bench.config.train.epochs_on(n["train"])
        return epochs * (TRAINING_COST * n["train"] + n["validation"]) + n["test"]
    return float(sum(n[name] for name in _splits_read(BASELINES[spec.method], bench)))


def execute(
    spec: RunSpec, bench: Workbench, folder: Path, observer: Observer, predicted: CostRow | None = None
) -> RunRecord:
    """Do one run.

    Args:
        spec: What to do.
        bench: Data, encoder and machine.
        folder: The study folder; the run writes into ``runs/<id>``.
        observer: Is told how far it is.
        predicted: The cost estimate; it goes into the record.

    Returns:
        The record, which is also written as ``run.json``; failed where the method broke.

    Raises:
        OSError: If the files cannot be written.
    """
    run_folder = folder / "runs" / spec.id
    run_folder.mkdir(parents=True, exist_ok=True)
    with stopwatch() as watch:
        try:
            with PeakMemory(bench.runtime.device, held=lambda: bench.activations.held_bytes) as memory:
                bench.activations.on_drop = memory.begin_again
                outcome = _run(spec, bench, run_folder, observer)
            record = _complete(spec, bench, outcome, memory.peak_bytes, folder, run_folder)
        except OSError:
            raise
        except Exception as error:
            write_atomic(run_folder / "error.txt", traceback.format_exc())
            record = failed_run(spec, error)
    if record.status == "failed":
        record.seconds.total = watch.seconds
    if predicted is not None and predicted.seconds is not None:
        record.predicted_seconds = predicted.seconds.total
        record.predicted_memory_bytes = predicted.memory_bytes
    keep_run(record, folder)
    return record


def failed_run(spec: RunSpec, error: Exception) -> RunRecord:
    """The record of a run that broke."""
    return RunRecord(
        id=spec.id,
        method=spec.method,
        kind=spec.kind,
        seed=spec.seed,
        train_rows=spec.train_rows,
        status="failed",
        error=f"{type(error).__name__}: {error}",
        seconds=Seconds(total=0.0),
        hyperparameters=dict(spec.options),
        notes=list(spec.notes),
    )


def keep_run(record: RunRecord, folder: Path) -> None:
    """Write ``run.json`` into a study folder: the run has ended."""
    run_folder = folder / "runs" / record.id
    run_folder.mkdir(parents=True, exist_ok=True)
    write_atomic(run_folder / "run.json", record.model_dump_json(indent=1) + "\n")


def _run(spec: RunSpec, bench: Workbench, run_folder: Path, observer: Observer) -> Outcome:
    seed_everything(spec.seed)
    if spec.method not in BASELINES:
        method = method_named(spec.method)
        options = method.options.model_validate(spec.options)
        keep = method.kind == "peft" or bench.config.study.keep_full
        return train_and_test(
            method,
            options,
            spec.seed,
            bench,
            observer,
            log=run_folder / METRICS_FILE,
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
    task, validation_labels = bench.task, bench.split("validation").labels
    thresholds = task.fit_thresholds(validation_labels, outcome.validation)
    predictions, decided = run_folder / PREDICTIONS_FILE, task.decide(outcome.test, thresholds)
    write_predictions(predictions, labels, decided, outcome.test)
    fields = outcome.fields
    fields.setdefault("peak_memory_bytes", peak_bytes)
    fields["peak_memory_bytes"] = max(fields["peak_memory_bytes"], peak_bytes)
    fields["notes"] = [*spec.notes, *fields.get("notes", [])]
    calibration = None
    if task.calibrate is not None and len(validation_labels):
        calibration = task.calibrate(
            (validation_labels, outcome.validation, thresholds), (labels, outcome.test, thresholds)
        )
    trainable, total = fields.get("trainable_parameters", 0), fields.get("total_parameters", 0)
    return RunRecord(
        id=spec.id,
        method=spec.method,
        kind=spec.kind,
        seed=spec.seed,
        train_rows=spec.train_rows,
        status="complete",
        metric=task.primary.name,
        test=task.evaluate(labels, outcome.test, thresholds),
        validation=task.evaluate(validation_labels, outcome.validation, thresholds) if len(validation_labels) else None,
        thresholds=None if thresholds is None else [float(f"{value:.6g}") for value in thresholds],
        calibration=calibration,
        trainable_percent=100 * trainable / total if total else 0.0,
        predictions=predictions.relative_to(folder).as_posix(),
        metrics=_existing(run_folder / METRICS_FILE, folder),
        bundle=_existing(run_folder / "bundle", folder),
        **fields,
    )


def _existing(path: Path, folder: Path) -> str | None:
    return path.relative_to(folder).as_posix() if path.exists() else None


def features_read(spec: RunSpec, bench: Workbench) -> tuple[SplitName, ...]:
    """Splits of the whole study of which a run reads the frozen features."""
    names: tuple[SplitName, ...]
    if spec.method not in BASELINES:
        names = ("train",) if begins_with_head(method_named(spec.method), bench.config.train) else ()
    else:
        baseline = BASELINES[spec.method]
        names = () if baseline.reads == "texts" else _splits_read(baseline, bench)
    if spec.train_rows in (None, len(bench.encoded["train"])):
        return names
    return tuple(name for name in names if name != "train")  # fewer rows have features of their own


def _splits_read(baseline: Baseline, bench: Workbench) -> tuple[SplitName, ...]:
    """Those that have rows."""
    names: tuple[SplitName, ...] = _READ_UNTRAINED if baseline.reads == "encoder" else SPLITS
    return tuple(name for name in names if len(bench.encoded[name]))


def _run_baseline(baseline: Baseline, bench: Workbench, observer: Observer) -> Outcome:
    """Fit a baseline on texts or frozen features."""
    assert baseline.fit is not None, "a baseline that reads texts or features is fitted"
    names = _splits_read(baseline, bench)
    cache_s = feature_test_s = tokenize_s = 0.0
    peak_bytes = 0
    inputs: dict[SplitName, Any] = {}
    for name in names:
        if baseline.reads == "features":
            found = bench.features(name, observer.advanced)
            # A linear model of the mean over windows says the mean of what it says of each.
            texts = bench.encoded[name]
            inputs[name] = {"read": texts.pooled(found.read), "mean": texts.pooled(found.mean)}
            peak_bytes = max(peak_bytes, found.peak_memory_bytes)
            tokenize_s += bench.tokenize_seconds[name]
            if name == "test":
                feature_test_s = found.seconds
            else:
                cache_s += found.seconds
        else:
            inputs[name] = bench.split(name).texts
    n_classes = len(bench.splits.labels)
    with stopwatch() as train:
        fitted = baseline.fit(
            Rows(
                inputs["train"],
                bench.split("train").labels,
                inputs.get("validation", {}),
                bench.split("validation").labels,
                n_classes,
                bench.task,
                bench.config.train.class_weights,
            )
        )
    with stopwatch() as evaluate:
        test = fitted.predict_proba(inputs["test"])
    evaluate_s = evaluate.seconds + feature_test_s
    n_base = bench.base.n_parameters if baseline.reads == "features" else 0
    return Outcome(
        test=test,
        validation=fitted.predict_proba(inputs["validation"]) if "validation" in inputs else np.zeros((0, n_classes)),
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
    names = _splits_read(BASELINES["foundation"], bench)
    found = {name: bench.features(name, observer.advanced) for name in names}
    encoder = bench.load_encoder(seed)  # not before: features are made by another one, and one at a time is enough
    with stopwatch() as evaluate, torch.inference_mode():
        encoder.model.eval()
        logits = {
            name: bench.encoded[name].pooled(head_logits(encoder, torch.from_numpy(features.read)).float().numpy())
            for name, features in found.items()
        }
    tokenize_s = bench.tokenize_seconds["test"]
    evaluate_s = evaluate.seconds + found["test"].seconds
    return Outcome(
        test=bench.task.probabilities(logits["test"]),
        validation=bench.task.probabilities(logits["validation"])
        if "validation" in logits
        else np.zeros((0, len(bench.splits.labels))),
        fields={
            "seconds": Seconds(total=tokenize_s + evaluate_s, tokenize=tokenize_s, evaluate=evaluate_s),
            "total_parameters": encoder.n_parameters,
            "notes": list(bench.notes),
            "peak_memory_bytes": found["test"].peak_memory_bytes,
        },
    )
