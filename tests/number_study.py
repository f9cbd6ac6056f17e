"""Writes synthetic studies of numbers: what is said of them follows from their predictions by feathertune's statistics.

For tests of what makes or reads a study where labels are numbers; nothing is trained. The numbers follow `seed`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evidence import make_base
from feathertune.records import (
    DataRecord,
    Kind,
    LabelSummary,
    RunRecord,
    SearchRecord,
    Seconds,
    StudyRecord,
    TrialRecord,
    at_largest_size,
    save_study,
)
from feathertune.study.verdict.evidence import Evidence
from feathertune.study.verdict.summary import RunPredictions, by_length, compare_pairs, more_labels, summarise_sizes
from feathertune.study.verdict.verdict import judge
from feathertune.tasks import REGRESSION
from feathertune.tasks.metrics import score_numbers

MARGIN = 0.01


@dataclass(frozen=True)
class FakeMethod:
    """What a method shall look like: `correlation` is that of its numbers with the labels, before they are ranked."""

    name: str
    kind: Kind
    correlation: float
    trainable: int = 0
    seeds: int | None = None


METHODS = (
    FakeMethod("majority", "baseline", 0.0, seeds=1),
    FakeMethod("tfidf", "baseline", 0.55, 5_000, seeds=1),
    FakeMethod("foundation", "baseline", 0.0, seeds=5),
    FakeMethod("probe", "probe", 0.7, 770, seeds=1),
    FakeMethod("lora", "peft", 0.85, 443_906),
    FakeMethod("full", "full", 0.86, 22_713_986),
)


def summary_of(labels: np.ndarray) -> LabelSummary:
    """How labels lie."""
    low, q25, median, q75, high = np.quantile(labels, (0, 0.25, 0.5, 0.75, 1)).tolist()
    return LabelSummary(mean=labels.mean(), sd=labels.std(), low=low, q25=q25, median=median, q75=q75, high=high)


def write_study(
    folder: Path,
    *,
    methods: Sequence[FakeMethod] = METHODS,
    seeds: int = 2,
    n_test: int = 400,
    sizes: Sequence[int] = (),
    unit: float = 1.0,
    side_files: bool = True,
    seed: int = 0,
) -> StudyRecord:
    """Write a study and what lies beside it.

    Args:
        folder: Made where it is missing.
        methods: Rows of the study.
        seeds: Of each method that does not say its own.
        n_test: Test rows.
        sizes: Numbers of training rows of a learning curve; the fewer, the worse.
        unit: By what labels and predictions are multiplied: they lie between 0 and 5 units.
        side_files: Whether to write predictions, metrics and test texts.
        seed: Of the predictions; the labels are always the same.

    Returns:
        The record as written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    merit = np.random.default_rng(100).standard_normal(n_test)
    labels = unit * np.clip(2.5 + 1.25 * merit, 0.0, 5.0).round(1)
    rng = np.random.default_rng(seed)
    hard = rng.standard_normal(n_test)
    runs: list[RunRecord] = []
    predicted: dict[str, np.ndarray] = {}
    for method in methods:
        own = rng.standard_normal(n_test)
        for run_seed in range(method.seeds or seeds):
            for size in (sizes or (None,)) if method.kind in ("peft", "full") else (None,):
                reached = method.correlation * (0.6 + 0.4 * size / max(sizes) if size else 1.0)
                chance = rng.standard_normal(n_test)
                error = (hard + own + chance) / 3**0.5
                numbers = 2.5 + 1.25 * reached * (reached * merit + (1 - reached**2) ** 0.5 * error)
                if method.name == "foundation":
                    numbers = 0.1 * (error + 0.2 * rng.standard_normal() * merit)
                if method.name == "majority":
                    numbers = np.full(n_test, 2.5)
                run_id = f"{method.name}-{f'n{size}-' if size else ''}s{run_seed}"
                predicted[run_id] = unit * numbers
                runs.append(_run(folder, method, run_id, run_seed, size, labels, predicted[run_id], side_files))
    if side_files:
        _write(folder / "test.parquet", text=[f"text {i}" for i in range(n_test)], label=labels)
    data = DataRecord(
        source="sample:sts",
        fingerprint="5d1c8f0a" * 8,
        task="regression",
        labels=[],
        n_train=1000,
        n_validation=300,
        n_test=n_test,
        class_counts={},
        numbers={split: summary_of(labels) for split in ("train", "validation", "test")},
        max_length=64,
        duplicates_removed=0,
        overlap_removed=0,
        notes=["The label is a number."],
    )
    base = make_base(truncated_fraction=0.3, unread_fraction=0.1, fingerprint="a9f3" * 16, n_parameters=1)
    whole = at_largest_size(runs)
    predictions = RunPredictions(REGRESSION.primary, labels, predicted)
    answers = predictions.answers(whole)
    summary = summarise_sizes(runs, predictions, margin=MARGIN)
    pairs = compare_pairs(answers, resamples=200)
    lengths = np.random.default_rng(1).integers(4, 120, n_test)
    study = StudyRecord(
        created="2025-11-24T21:57:03+00:00",
        status="complete",
        data=data,
        bases=[base],
        hardware={"device": "cpu"},
        versions={"feathertune": "0.1.0"},
        command=["feathertune", "compare", "sts.csv"],
        planned_runs=[run.id for run in runs],
        runs=runs,
        summary=summary,
        verdict=judge(Evidence(REGRESSION, data, at_largest_size(summary), whole, pairs, MARGIN, bases=[base])),
        metric="spearman",
        margin=MARGIN,
        pairs=pairs,
        more_labels=more_labels(runs, predictions),
        searches=[_search()],
        by_length=by_length(
            answers, n_tokens=lengths, n_unread=np.maximum(0, lengths - data.max_length), max_length=data.max_length
        ),
    )
    save_study(study, folder)
    return study


def _run(folder, method, run_id, seed, size, labels, predicted, side_files) -> RunRecord:
    trained = method.kind in ("peft", "full")
    if side_files:
        place = folder / "runs" / run_id
        place.mkdir(parents=True, exist_ok=True)
        _write(place / "predictions.parquet", label=labels, predicted=predicted)
        lines = [
            {
                "event": "epoch",
                "epoch": epoch,
                "train_loss": 0.6 / epoch,
                "validation_loss": 0.5 / epoch,
                "validation_score": method.correlation - 0.1 / epoch,
                "seconds": 1.0,
            }
            for epoch in (1, 2, 3)
        ]
        (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines if trained))
    scores = score_numbers(labels, predicted)
    return RunRecord(
        id=run_id,
        method=method.name,
        kind=method.kind,
        seed=seed,
        train_rows=size,
        status="complete",
        metric="spearman",
        test=scores,
        validation=scores,
        trainable_parameters=method.trainable,
        total_parameters=22_713_986,
        adapter_bytes=4 * method.trainable,
        seconds=Seconds(total=1.0 + method.trainable / 1e5, train=1.0),
        epochs=3 if trained else 0,
        best_epoch=2 if trained else 0,
        train_losses=[0.6, 0.3, 0.2] if trained else [],
        validation_losses=[0.5, 0.25, 0.24] if trained else [],
        peak_memory_bytes=700_000_000,
        hyperparameters={"r": 8, "epochs": 3} if trained else {},
        metrics=f"runs/{run_id}/metrics.jsonl" if trained else None,
        predictions=f"runs/{run_id}/predictions.parquet",
    )


def _search() -> SearchRecord:
    trials = [
        TrialRecord(number=0, options={"r": 8}, status="complete", score=0.8123),
        TrialRecord(number=1, options={"r": 4}, status="complete", score=0.8234),
    ]
    return SearchRecord(method="lora", space={"r": [4, 8]}, chosen=1, trials=trials)


def _write(path: Path, **columns) -> None:
    n = len(columns["label"])
    pq.write_table(pa.table({"row": pa.array(range(n), pa.int64()), **columns}), path)
