"""Compare ways to read long documents with one token budget: head, head and tail, or two windows of half the length.

Each reading is trained on the same rows of sample:imdb, where a third of the reviews exceed 300 tokens. Split, seeds,
method and the maximum of 128 tokens per text are the same (``windows`` uses two windows of 64, at both ends).
Differences are paired by test row over the seeds, for all rows and for truncated rows only. Writes
``benchmarks/results/long-imdb-minilm.json``. An interrupted run resumes. Takes eleven minutes on one core. Pass
``--readings head-128,windows-8x64`` to compare other readings, which may have different budgets.
"""

from __future__ import annotations

import argparse
import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from feathertune.config import Config, load_config
from feathertune.data.tokens.encode import encode
from feathertune.runtime import hardware, seed_everything, versions
from feathertune.statistics.inference import paired_difference, seed_interval
from feathertune.statistics.measures import ACCURACY, Answers
from feathertune.study.compare import prepare
from feathertune.study.observe import Silent
from feathertune.study.running.run_files import read_predictions, write_predictions
from feathertune.study.running.training import Outputs, train_and_test
from feathertune.study.running.workbench import Prepared

RESULTS = Path(__file__).with_name("results")
READINGS = "head-128,head-tail-128,windows-2x64"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sample:imdb")
    parser.add_argument("--base", default="sample:minilm")
    parser.add_argument("--readings", default=READINGS)
    parser.add_argument("--train-rows", type=int, default=1000)
    parser.add_argument("--validation-rows", type=int, default=300)
    parser.add_argument("--test-rows", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--top-layers", type=int, default=3, help="trained encoder layers; the others run once")
    parser.add_argument("--folder", type=Path, default=Path("runs", "bench-long"))
    parser.add_argument("--result", type=Path, default=RESULTS / "long-imdb-minilm.json")
    args = parser.parse_args()
    answers: dict[str, Answers] = {}
    budgets: dict[str, Any] = {}
    test_rows = set()
    for name in args.readings.split(","):
        config = settings(name, args)
        prepared = prepare(config, Silent())
        bench = prepared.bench
        print(f"{name}: {bench.data.long_texts()}", flush=True)
        predicted = np.stack([predictions(prepared, seed, args.folder / name) for seed in range(args.seeds)])
        answers[name] = ACCURACY.answers(prepared.bench.splits["test"].labels, predicted)
        test = bench.encoded["test"]
        budgets[name] = {
            "settings": prepared.study.config.data.model_dump(mode="json"),
            "most_tokens_a_text": int(test.lengths.max()),
            "mean_tokens_a_text": float(test.lengths.mean()),
            "unread_fraction": bench.base.unread_fraction,
        }
        test_rows.add(tuple(bench.splits["test"].texts))
    assert len(test_rows) == 1, "all readings have the same test rows"
    tokenizer = bench.pretrained.load(seed=0).tokenizer
    whole = encode(tokenizer, bench.splits["test"].texts, max_length=1 << 30).lengths
    most = max(one["most_tokens_a_text"] for one in budgets.values())
    groups = {"all": np.arange(len(whole)), "long": np.flatnonzero(whole > most)}
    record = {
        "settings": {key: str(value) for key, value in vars(args).items() if key not in ("folder", "result")},
        "budgets": budgets,
        "rows": {group: len(rows) for group, rows in groups.items()},
        "accuracy": {
            g: {n: seed_interval(a.of_rows(rows))._asdict() for n, a in answers.items()} for g, rows in groups.items()
        },
        "differences": {group: differences(answers, rows) for group, rows in groups.items()},
        "hardware": hardware(bench.runtime),
        "versions": versions(),
    }
    args.result.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for group, rows in groups.items():
        print(f"\n{group}: {len(rows):,} test rows")
        for name, found in record["accuracy"][group].items():
            print(f"  {name:16s} {found['mean']:.1%} ({found['low']:.1%} to {found['high']:.1%})")
        for name, found in record["differences"][group].items():
            points = [100 * found[key] for key in ("mean", "low", "high")]
            print(f"  {name}: {points[0]:+.1f} points ({points[1]:+.1f} to {points[2]:+.1f}), p {found['p']:.2g}")


def settings(name: str, args: argparse.Namespace) -> Config:
    """Return the settings for a reading by its name, such as ``head-128`` or ``windows-2x64``."""
    if (found := re.fullmatch(r"([a-z-]+)-(?:(\d+)x)?(\d+)", name)) is None:
        raise SystemExit(f"Unknown reading '{name}'. Expected a name such as {READINGS}")
    long, n_windows, length = found.groups()
    return load_config(
        options={
            "data.source": args.data,
            "data.train_size": args.train_rows,
            "data.validation_size": args.validation_rows,
            "data.test_size": args.test_rows,
            "data.max_length": int(length),
            "data.long": long,
            "data.max_windows": int(n_windows or 1),
            "base.id": args.base,
            "study.methods": ["lora"],
            "method.top_layers": args.top_layers,
            "train.epochs": args.epochs,
        }
    )


def predictions(prepared: Prepared, seed: int, folder: Path) -> np.ndarray:
    """Return LoRA's test predictions ``(N,)``, trained as in a study, or read the saved ones."""
    path = folder / f"seed-{seed}.parquet"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        bench, study = prepared.bench, prepared.study
        spec = next(run for run in study.plan.runs if run.method == "lora").model_copy(update={"seed": seed})
        seed_everything(seed)
        found = train_and_test(spec, prepared, Silent(), Outputs(folder / f"seed-{seed}.jsonl"))
        decided = study.task.decide(found.test, found.scores.thresholds)
        write_predictions(path, bench.splits["test"].labels, decided, found.test)
    return read_predictions(path).predicted


def differences(answers: dict[str, Answers], rows: np.ndarray) -> dict[str, dict[str, float]]:
    """Return the difference of every pair of readings, the later minus the earlier."""
    return {
        f"{other} minus {one}": paired_difference(answers[other].of_rows(rows), answers[one].of_rows(rows))._asdict()
        for one, other in combinations(answers, 2)
    }


if __name__ == "__main__":
    main()
