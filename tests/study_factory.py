"""Writes synthetic study folders that are consistent: the metrics of a run are those of its predictions.

For tests of what reads a study (the report, the command line); nothing is trained. The numbers follow `seed`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feathertune.records import (
    BaseRecord,
    Calibration,
    Caveat,
    DataRecord,
    Kind,
    Metrics,
    Reason,
    RunRecord,
    Seconds,
    StudyRecord,
    SummaryRow,
    Verdict,
    save_study,
)
from feathertune.tasks import SCORES


@dataclass(frozen=True)
class FakeMethod:
    """What a method shall look like: `skill` is its accuracy between chance (0) and perfect (1)."""

    name: str
    kind: Kind
    skill: float
    seconds: float
    trainable: int = 0
    memory_bytes: int = 700_000_000
    seeds: int | None = None


N_PARAMETERS = 22_713_986
METHODS = (
    FakeMethod("majority", "baseline", 0.0, 0.0004, memory_bytes=410_000_000, seeds=1),
    FakeMethod("tfidf", "baseline", 0.62, 1.3, memory_bytes=468_000_000, seeds=1),
    FakeMethod("foundation", "baseline", 0.02, 9.4, memory_bytes=655_000_000, seeds=5),
    FakeMethod("probe", "probe", 0.58, 14.2, 770, memory_bytes=690_000_000, seeds=1),
    FakeMethod("lora", "peft", 0.74, 81.0, 443_906, memory_bytes=905_000_000),
    FakeMethod("full", "full", 0.76, 176.0, N_PARAMETERS, memory_bytes=1_420_000_000),
)
TEXTS = (
    "A quiet film that trusts its actors, and is repaid in every scene; the last ten minutes are worth it.",
    "I looked at my watch after twenty minutes, and again after twenty-two. Nothing happens, twice.",
    "Not as bad as people say, though the dialogue sounds as if it had been translated, and translated back.",
    "The best thing about it is the poster. I wanted to like this one, I really did.",
    "Funny, warm and a little too long. My grandmother laughed so hard that the row in front turned round.",
    "It starts as a thriller and ends as a screensaver.",
)


def many_methods(n: int) -> tuple[FakeMethod, ...]:
    """The usual methods and `n` adapters more."""
    adapters = tuple(
        FakeMethod(f"adapter-{i:02d}", "peft", 0.5 + 0.25 * i / max(n, 1), 40.0 + 3 * i, 10_000 * (i + 1))
        for i in range(n)
    )
    return METHODS[:-1] + adapters + METHODS[-1:]


def write_study(
    folder: Path,
    *,
    methods: Sequence[FakeMethod] = METHODS,
    seeds: int = 1,
    labels: Sequence[str] = ("negative", "positive"),
    texts: Sequence[str] = TEXTS,
    n_test: int = 1000,
    epochs: int = 3,
    failed: str | None = None,
    error: str = "RuntimeError: the loss became NaN in step 31",
    missing: Sequence[str] = (),
    side_files: bool = True,
    metric: str = "accuracy",
    seed: int = 0,
) -> StudyRecord:
    """Write a study and what lies beside it.

    Args:
        folder: Made where it is missing.
        methods: Rows of the study.
        seeds: Of each method that does not say its own.
        labels: Class names.
        texts: Test texts, repeated in turn.
        n_test: Test rows.
        epochs: Of trained methods.
        failed: A method whose runs all failed with `error`.
        missing: Methods whose runs were planned and never ran; the study is partial then.
        side_files: Whether to write predictions, metrics and test texts.
        metric: The primary metric.
        seed: Of the random numbers.

    Returns:
        The record as written.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    n = len(labels)
    truth = rng.integers(0, n, n_test)
    if side_files:
        shown = [texts[i % len(texts)][:2000] for i in range(n_test)]
        rows = pa.array(range(n_test), pa.int64())
        table = pa.table({"row": rows, "text": shown, "label": pa.array(truth, pa.int32())})
        pq.write_table(table, folder / "test.parquet")
    difficulty = rng.random(n_test)  # shared, so that methods are right on similar rows
    planned, runs, summary = [], [], []
    for method in methods:
        done = []
        for run_seed in range(method.seeds or seeds):
            run_id = f"{method.name}-s{run_seed}"
            planned.append(run_id)
            if method.name in missing:
                continue
            if method.name == failed:
                runs.append(
                    RunRecord(
                        id=run_id,
                        method=method.name,
                        kind=method.kind,
                        seed=run_seed,
                        status="failed",
                        error=error,
                        seconds=Seconds(total=3.2),
                    )
                )
                continue
            done.append(_run(folder, method, run_id, run_seed, truth, difficulty, n, epochs, side_files, rng))
        done = [run.model_copy(update={"metric": metric}) for run in done]
        runs += done
        if done:
            summary.append(_summary_row(method, done))
    _compare_with_full(summary)
    study = StudyRecord(
        created="2025-11-24T21:57:03+00:00",
        status="partial" if missing else "complete",
        data=DataRecord(
            source="sample:imdb",
            fingerprint="5d1c8f0a" * 8,
            labels=list(labels),
            n_train=1000,
            n_validation=300,
            n_test=n_test,
            class_counts={
                "train": _even(1000, n),
                "validation": _even(300, n),
                "test": np.bincount(truth, minlength=n).tolist(),
            },
            max_length=128,
            duplicates_removed=96,
            overlap_removed=2,
            notes=["'<br />' was replaced by a space."],
        ),
        bases=[
            BaseRecord(
                id="sample:minilm",
                name="minilm",
                truncated_fraction=0.784,
                fingerprint="a9f3" * 16,
                model_type="bert",
                n_parameters=N_PARAMETERS,
                n_layers=6,
                hidden_size=384,
                new_parameters=["classifier.weight", "classifier.bias"],
            )
        ],
        hardware={
            "device": "cpu",
            "processor": "x86_64, 2 cores",
            "threads": 2,
            "memory_bytes": 8_230_000_000,
            "dtype": "fp32",
            "measured": {"fp32_gflops": 71.4, "bf16_gflops": 12.9},
        },
        versions={"python": "3.11.9", "feathertune": "0.1.0", "torch": "2.13.0", "transformers": "5.24.0"},
        command=["feathertune", "compare", "sample:imdb", "--base", "sample:minilm", "--seeds", str(seeds)],
        planned_runs=planned,
        runs=runs,
        summary=summary,
        verdict=_verdict(summary, n_test),
        metric=metric,
    )
    save_study(study, folder)
    return study


def _even(rows: int, n: int) -> list[int]:
    return [rows // n + (index < rows % n) for index in range(n)]


def _run(folder, method, run_id, seed, truth, difficulty, n, epochs, side_files, rng) -> RunRecord:
    noise = rng.normal(0, 0.02) if method.seeds != 1 else 0.0
    chance = 1 / n
    share = min(1.0, max(0.0, chance + (1 - chance) * method.skill + noise))
    if method.name == "majority":
        predicted = np.full_like(truth, np.bincount(truth, minlength=n).argmax())
    else:
        hard = 0.8 * difficulty + 0.2 * rng.random(len(truth)) if method.skill > 0.1 else rng.random(len(truth))
        right = hard.argsort().argsort() < share * len(truth)
        predicted = np.where(right, truth, (truth + 1 + rng.integers(0, max(n - 1, 1), len(truth))) % n)
        wrong = ~right & (predicted == truth)
        predicted = np.where(wrong, (truth + 1) % n, predicted)
    confidence = 0.5 + 0.5 * rng.random(len(truth))
    probabilities = np.repeat(((1 - confidence) / max(n - 1, 1))[:, None], n, axis=1)
    probabilities[np.arange(len(truth)), predicted] = confidence
    trained = method.kind in ("peft", "full")
    if side_files:
        (folder / "runs" / run_id).mkdir(parents=True, exist_ok=True)
        _write_predictions(folder / "runs" / run_id / "predictions.parquet", truth, predicted, probabilities)
        if trained:
            _write_metrics(folder / "runs" / run_id / "metrics.jsonl", epochs, share, rng)
    metrics = _metrics(truth, predicted, probabilities, n)
    seconds = method.seconds * (1 + 0.05 * rng.random())
    return RunRecord(
        id=run_id,
        method=method.name,
        kind=method.kind,
        seed=seed,
        status="complete",
        test=metrics,
        validation=metrics,
        calibration=_calibration(truth, predicted, probabilities.max(axis=1)),
        trainable_parameters=method.trainable,
        total_parameters=N_PARAMETERS + (method.trainable if method.kind == "peft" else 0),
        trainable_percent=100 * method.trainable / N_PARAMETERS,
        adapter_bytes=4 * method.trainable,
        seconds=Seconds(total=seconds, tokenize=0.1 * seconds, train=0.7 * seconds, evaluate=0.2 * seconds),
        epochs=epochs if trained else 0,
        best_epoch=max(1, epochs - 1) if trained else 0,
        steps=63 * epochs if trained else 0,
        tokens_per_second=4100.0 if trained else None,
        examples_per_second=36.0 if trained else None,
        peak_memory_bytes=method.memory_bytes,
        hyperparameters={"r": 8, "lora_alpha": 16, "learning_rate": 1e-3, "seed": seed} if trained else {},
        metrics=f"runs/{run_id}/metrics.jsonl" if trained else None,
        predictions=f"runs/{run_id}/predictions.parquet",
    )


def _write_predictions(path, truth, predicted, probabilities) -> None:
    pq.write_table(
        pa.table(
            {
                "row": pa.array(range(len(truth)), pa.int64()),
                "label": pa.array(truth, pa.int32()),
                "predicted": pa.array(predicted, pa.int32()),
                "probabilities": pa.array(probabilities.tolist(), pa.list_(pa.float32())),
            }
        ),
        path,
    )


def _write_metrics(path, epochs, share, rng) -> None:
    lines = []
    for epoch in range(1, epochs + 1):
        lines += [
            {
                "event": "step",
                "step": 63 * (epoch - 1) + step,
                "epoch": epoch,
                "loss": 0.7 / epoch + 0.05 * rng.random(),
                "learning_rate": 1e-3,
                "seconds": 0.4,
            }
            for step in range(1, 4)
        ]
        lines.append(
            {
                "event": "epoch",
                "epoch": epoch,
                "train_loss": 0.75 * 0.6**epoch + 0.02 * rng.random(),
                "validation_loss": 0.3 + 0.3 * 0.5**epoch + 0.02 * epoch,
                "validation_score": share - 0.1 * 0.4**epoch + 0.01 * rng.normal(),
                "seconds": 25.0,
            }
        )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _metrics(truth, predicted, probabilities, n) -> Metrics:
    from sklearn.metrics import f1_score, log_loss, matthews_corrcoef

    from feathertune.tasks.metrics import balanced_accuracy

    right = predicted == truth
    confidence = probabilities.max(axis=1)
    labels = list(range(n))
    return Metrics(
        accuracy=float(right.mean()),
        balanced_accuracy=balanced_accuracy(truth, predicted),
        macro_f1=float(f1_score(truth, predicted, average="macro", labels=labels, zero_division=0)),
        mcc=float(matthews_corrcoef(truth, predicted)) if len({*truth, *predicted}) > 1 else 0.0,
        log_loss=float(log_loss(truth, probabilities, labels=labels)) if n > 1 else 0.0,
        ece=float(abs(confidence.mean() - right.mean())),
        n=len(truth),
    )


def _calibration(truth, predicted, confidence) -> Calibration:
    bins = [confidence <= 0.5 + 0.1 * tenth for tenth in range(6)]
    held = [above & ~below for below, above in pairwise(bins)]
    return Calibration(
        temperature=1.3,
        ece=0.012,
        log_loss=0.3,
        bins=[
            (int(h.sum()), float(confidence[h].mean()), float((predicted == truth)[h].mean())) for h in held if h.any()
        ],
    )


def _summary_row(method: FakeMethod, runs: Sequence[RunRecord]) -> SummaryRow:
    scores = [SCORES[run.metric].of(run.test) for run in runs]
    mean = float(np.mean(scores))
    sd = float(np.std(scores, ddof=1)) if len(scores) > 1 else None
    half = 1.96 * float(np.sqrt(mean * (1 - mean) / runs[0].test.n + (sd or 0.0) ** 2 / len(scores)))
    return SummaryRow(
        method=method.name,
        kind=method.kind,
        n_seeds=len(runs),
        metric=runs[0].metric,
        score_mean=mean,
        score_sd=sd,
        score_low=max(0.0, mean - half),
        score_high=min(1.0, mean + half),
        seconds_mean=float(np.mean([run.seconds.total for run in runs])),
        memory_mean_bytes=float(method.memory_bytes),
        trainable_parameters=method.trainable,
        adapter_bytes=4 * method.trainable,
    )


def _compare_with_full(summary: list[SummaryRow]) -> None:
    full = next((row for row in summary if row.kind == "full"), None)
    for row in summary if full else ():
        row.speedup_vs_full = full.seconds_mean / row.seconds_mean
        row.memory_vs_full = row.memory_mean_bytes / full.memory_mean_bytes
        if row is not full:
            row.delta_vs_full = row.score_mean - full.score_mean
            row.delta_low, row.delta_high = row.delta_vs_full - 0.014, row.delta_vs_full + 0.013
            row.p_vs_full_holm = 0.41 if abs(row.delta_vs_full) < 0.02 else 0.0004


def _verdict(summary: Sequence[SummaryRow], n_test: int) -> Verdict:
    trained = [row for row in summary if row.kind == "peft"]
    if not trained:
        return Verdict(recommended=None, reasons=[Reason.of("nothing_complete")])
    best = max(trained, key=lambda row: row.score_mean)
    full = next((row for row in summary if row.kind == "full"), None)
    against = {} if full is None else {"full": full.score_mean, "margin": 0.01, "against_full": "not_clear"}
    return Verdict(
        recommended=best.method,
        reasons=[
            Reason.of(
                "recommended",
                method=best.method,
                kind=best.kind,
                score=best.score_mean,
                low=best.score_low,
                high=best.score_high,
                n_test=n_test,
                trained=best.trainable_parameters,
                trained_share=best.trainable_parameters / N_PARAMETERS,
                **against,
            )
        ],
        caveats=[Caveat.of("selected_on_test", method=best.method)],
    )
