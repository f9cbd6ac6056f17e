"""Measure the gain from each setting for unbalanced classes, with one positive text in twenty.

The data is sample:rotten-tomatoes with most positive sentences removed: 1,500 training, 400 validation and 2,000 test
rows, with 5% positives in each split. Each seed draws and trains on new rows. Settings are compared on the same rows,
by their mean difference over the seeds with Student's interval. Ranking quality (average precision) is reported
separately from decision quality (macro F1, balanced accuracy, recall). Writes ``benchmarks/results/imbalance.json``. An
interrupted run resumes. Takes thirteen minutes on two busy cores.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from sklearn.metrics import average_precision_score, balanced_accuracy_score

from feathertune.config import Config, load_config
from feathertune.data.sources.registry import load_source
from feathertune.records import RunRecord
from feathertune.runtime import hardware, versions
from feathertune.study.compare import prepare
from feathertune.study.observe import Silent
from feathertune.study.running.run_files import read_predictions
from feathertune.study.running.runs import execute
from feathertune.study.running.workbench import Prepared

RESULT = Path(__file__).with_name("results") / "imbalance.json"
# Settings as passed to `--set`; the others are compared with the first.
SETTINGS: dict[str, dict[str, str]] = {
    "nothing": {},
    "moved": {"train.decision": "moved"},
    "weights": {"train.class_weights": "balanced"},
    "weights, moved": {"train.class_weights": "balanced", "train.decision": "moved"},
}
SPLITS = ("train", "validation", "test")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="sample:minilm")
    parser.add_argument("--positives", type=float, default=0.05, help="share of positive rows")
    parser.add_argument("--rows", type=int, nargs=3, default=(1500, 400, 2000), metavar="N", help="rows per split")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--top-layers", type=int, default=3, help="trained encoder layers; the others run once")
    parser.add_argument("--folder", type=Path, default=Path("runs", "bench-imbalance"))
    parser.add_argument("--result", type=Path, default=RESULT)
    args = parser.parse_args()
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for seed in range(args.seeds):
        folder = args.folder / f"seed-{seed}"
        rows = draw(folder, seed, args)
        studies = {name: prepare(settings(rows, args, asked), Silent()) for name, asked in SETTINGS.items()}
        bench = studies["nothing"].bench
        for method in ("lora", "tfidf", "probe"):
            for name, prepared in studies.items():
                scores = scored(method, name, seed, prepared, folder / name.replace(", ", "-"))
                found.setdefault(method, {}).setdefault(name, []).append(scores)
                print(f"seed {seed}  {method:6s} {name:16s} {said(scores)}", flush=True)
    record = {
        "what": __doc__.splitlines()[0],
        "base": args.base,
        "data": {"source": "sample:rotten-tomatoes", "positives": args.positives, "rows": list(args.rows)},
        "training": {
            "epochs": args.epochs,
            "top_layers": args.top_layers,
            "max_length": bench.data.max_length,
            "chosen_by": "balanced accuracy on validation rows; macro F1 if the decision is moved",
        },
        "settings": SETTINGS,
        "runs": found,
        "summary": {method: summary(of_method) for method, of_method in found.items()},
        "hardware": hardware(bench.runtime),
        "versions": versions(),
    }
    args.result.parent.mkdir(parents=True, exist_ok=True)
    args.result.write_text(json.dumps(record, indent=1) + "\n")
    for method, rows in record["summary"].items():
        for name, row in rows.items():
            print(f"{method:6s} {name:16s} {said({key: value['mean'] for key, value in row['scores'].items()})}")


def draw(folder: Path, seed: int, args: argparse.Namespace) -> Path:
    """Write a seed's rows with their splits."""
    data = load_source("sample:rotten-tomatoes")
    labels = np.array(data.labels)
    rng = np.random.default_rng(seed)
    rare, common = (rng.permutation(np.flatnonzero(labels == name)).tolist() for name in ("positive", "negative"))
    path = folder / "rows.csv"
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "split"])
        for split, n in zip(SPLITS, args.rows, strict=True):
            n_rare = round(args.positives * n)
            for rows, label, n_rows in ((rare, "positive", n_rare), (common, "negative", n - n_rare)):
                writer.writerows((data.texts[rows.pop()], label, split) for _ in range(n_rows))
    return path


def settings(data: Path, args: argparse.Namespace, asked: dict[str, str]) -> Config:
    return load_config(
        options={
            "data.source": str(data),
            "data.split_column": "split",
            "data.max_length": 64,
            "base.id": args.base,
            "study.methods": ["lora"],
            "method.top_layers": args.top_layers,
            "train.epochs": args.epochs,
            "train.patience": args.epochs,
            **asked,
        }
    )


def scored(method: str, name: str, seed: int, prepared: Prepared, folder: Path) -> dict[str, Any]:
    """Execute one run of a study with some settings, or read its saved result."""
    bench = prepared.bench
    found = next(run for run in prepared.plan.runs if run.method == method)
    spec = found.model_copy(update={"seed": seed, "id": f"{method}-s{seed}"})
    path = folder / "runs" / spec.id / "run.json"
    if path.is_file():
        run = RunRecord.model_validate_json(path.read_text())
    else:
        run = execute(spec, prepared, folder, Silent())
    if run.test is None:
        raise SystemExit(f"{spec.id} with {name}: {run.error}")
    saved = read_predictions(folder / str(run.predictions))
    labels, probabilities, predicted = saved.labels, saved.probabilities, saved.predicted
    positive = bench.splits.labels.index("positive")
    is_rare, given = labels == positive, predicted == positive
    return {
        "seed": seed,
        "macro_f1": run.test.macro_f1,
        "balanced_accuracy": float(balanced_accuracy_score(labels, predicted)),
        "recall": float((is_rare & given).sum() / is_rare.sum()),
        "precision": float((is_rare & given).sum() / max(1, given.sum())),
        "accuracy": run.test.accuracy,
        "average_precision": float(average_precision_score(is_rare, probabilities[:, positive])),
        "ece": run.test.ece,
        "thresholds": run.thresholds,
        "best_epoch": run.best_epoch,
        "seconds": round(run.seconds.total, 1),
    }


def summary(found: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Return each setting's mean scores, and paired differences from the defaults with 95% intervals."""
    keys = ("macro_f1", "balanced_accuracy", "recall", "precision", "accuracy", "average_precision", "ece")
    return {
        name: {
            "scores": {key: interval([run[key] for run in runs]) for key in keys},
            "differences": {
                key: interval([run[key] - plain[key] for run, plain in zip(runs, found["nothing"], strict=True)])
                for key in keys
            },
        }
        for name, runs in found.items()
    }


def interval(values: list[float]) -> dict[str, float]:
    """Return the mean and Student's 95% interval over the seeds."""
    mean = float(np.mean(values))
    half = float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)) if len(values) > 1 else float("nan")
    return {"mean": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4)}


def said(scores: dict[str, float]) -> str:
    keys = ("macro_f1", "balanced_accuracy", "recall", "precision", "average_precision", "accuracy")
    return "  ".join(f"{key.replace('_', ' ')} {scores[key]:.3f}" for key in keys)


if __name__ == "__main__":
    main()
