"""Execute one run: turn a `RunSpec` into a `RunRecord` and its files.

An error in a run gives a failed record; a full disk and Ctrl-C are raised.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import sklearn.metrics  # noqa: F401 - imported here so that no run is charged for it

from feathertune.baselines import BASELINES
from feathertune.data.sources.collector import SplitName
from feathertune.methods import method_named
from feathertune.records import METRICS_FILE, PREDICTIONS_FILE, RunRecord, Seconds
from feathertune.records.cost_estimate import CostRow
from feathertune.runtime import GLOBAL_STATE, PeakMemory, seed_everything, stopwatch
from feathertune.storage import sha256_of, write_atomic
from feathertune.study.observe import Observer
from feathertune.study.run_spec import RunSpec
from feathertune.study.running.baseline_runs import run_baseline, splits_read
from feathertune.study.running.fuse import fuse_run, trained_before
from feathertune.study.running.prepare import begins_with_head
from feathertune.study.running.run_files import write_predictions
from feathertune.study.running.run_result import RunResult
from feathertune.study.running.training import Outputs, epoch_work, train_and_test
from feathertune.study.running.workbench import Prepared


def expected_work(spec: RunSpec, prepared: Prepared) -> float:
    """Return a run's work, in forward passes of one text."""
    bench = prepared.bench
    n = {name: len(texts) for name, texts in bench.encoded.items()}
    n["train"] = spec.train_rows or n["train"]
    if spec.method not in BASELINES:
        settings = prepared.study.config.train
        n_head = n["train"] if begins_with_head(method_named(spec.method), settings) else 0
        return n_head + settings.epochs_on(n["train"]) * epoch_work(n["train"], n["validation"]) + n["test"]
    return float(sum(n[name] for name in splits_read(BASELINES[spec.method], bench)))


def features_read(spec: RunSpec, prepared: Prepared) -> tuple[SplitName, ...]:
    """Return the splits whose frozen features a run shares with the whole study."""
    bench = prepared.bench
    names: tuple[SplitName, ...] = ()
    if spec.method not in BASELINES:
        if begins_with_head(method_named(spec.method), prepared.study.config.train):
            names = ("train",)
    elif BASELINES[spec.method].reads != "texts":
        names = splits_read(BASELINES[spec.method], bench)
    if spec.train_rows in (None, len(bench.encoded["train"])):
        return names
    return tuple(name for name in names if name != "train")  # a smaller training set has separate features


def execute(
    spec: RunSpec, prepared: Prepared, folder: Path, observer: Observer, predicted: CostRow | None = None
) -> RunRecord:
    """Execute one run, writing to the study folder's ``runs/<id>``; return its record, possibly a failed one."""
    run_folder, bench = folder / "runs" / spec.id, prepared.bench
    run_folder.mkdir(parents=True, exist_ok=True)
    with GLOBAL_STATE, stopwatch() as watch:
        try:
            with PeakMemory(bench.runtime.device, held=lambda: bench.activations.held_bytes) as memory:
                bench.activations.on_drop = memory.begin_again
                result = _run(spec, prepared, run_folder, observer)
            record = _complete(spec, prepared, result, memory.peak_bytes, folder)
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
    """Return the record of a run that failed."""
    return RunRecord(
        **_of_spec(spec),
        status="failed",
        error=f"{type(error).__name__}: {error}",
        seconds=Seconds(total=0.0),
        hyperparameters=dict(spec.options),
        notes=list(spec.notes),
    )


def _of_spec(spec: RunSpec) -> dict[str, Any]:
    return {**spec.model_dump(include={"id", "kind", "seed", "train_rows"}), "method": spec.row}


def keep_run(record: RunRecord, folder: Path) -> None:
    """Write ``run.json``, which marks a run as ended."""
    run_folder = folder / "runs" / record.id
    run_folder.mkdir(parents=True, exist_ok=True)
    write_atomic(run_folder / "run.json", record.model_dump_json(indent=1) + "\n")


def _run(spec: RunSpec, prepared: Prepared, run_folder: Path, observer: Observer) -> RunResult:
    seed_everything(spec.seed)
    if spec.method in BASELINES:
        return run_baseline(spec, prepared, observer)
    keeps_weights = spec.kind == "peft" or prepared.study.config.study.keep_full
    if keeps_weights and (trained := trained_before(spec, run_folder.parents[1])) is not None:
        return fuse_run(trained, prepared, run_folder.parents[1], run_folder / "bundle")
    outputs = Outputs(run_folder / METRICS_FILE, run_folder / "bundle" if keeps_weights else None)
    return train_and_test(spec, prepared, observer, outputs)


def _complete(spec: RunSpec, prepared: Prepared, result: RunResult, peak_bytes: int, folder: Path) -> RunRecord:
    """Write the predictions and return the record."""
    task, scores, run_folder = prepared.study.task, result.scores, folder / "runs" / spec.id
    labels, validation_labels = (prepared.bench.splits[name].labels for name in ("test", "validation"))
    predictions, decided = run_folder / PREDICTIONS_FILE, task.decide(result.test, scores.thresholds)
    write_predictions(predictions, labels, decided, result.test)
    calibration = None
    if task.calibrate is not None and len(validation_labels):
        calibration = task.calibrate(validation_labels, result.validation, labels, result.test, decided)
    trainable, total = result.trainable_parameters, result.total_parameters
    return RunRecord(
        **_of_spec(spec),
        status="complete",
        metric=task.primary.name,
        test=scores.test,
        validation=scores.validation,
        thresholds=None if scores.thresholds is None else [float(f"{value:.6g}") for value in scores.thresholds],
        calibration=calibration,
        trainable_parameters=trainable,
        total_parameters=total,
        trainable_percent=100 * trainable / total if total else 0.0,
        adapter_bytes=result.adapter_bytes,
        seconds=result.seconds,
        peak_memory_bytes=max(result.peak_memory_bytes, peak_bytes),
        hyperparameters=dict(result.hyperparameters),
        notes=[*spec.notes, *result.notes],
        predictions=predictions.relative_to(folder).as_posix(),
        predictions_sha256=sha256_of(predictions),
        metrics=_existing(run_folder / METRICS_FILE, folder),
        bundle=_existing(run_folder / "bundle", folder),
        **result.training,
    )


def _existing(path: Path, folder: Path) -> str | None:
    return path.relative_to(folder).as_posix() if path.exists() else None
