"""Which learning rate each method should have by default: validation accuracy only, the test split is never opened.

Run: ``python benchmarks/sweep_rates.py --out benchmarks/results/rates.json``
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from feathertune.config import load_config
from feathertune.engine.loop import EpochInfo, Training
from feathertune.methods import METHODS
from feathertune.runtime import hardware, seed_everything, versions
from feathertune.study.observe import Silent
from feathertune.study.workbench import Workbench

RATES = {
    "lora": (2e-4, 5e-4, 1e-3, 2e-3),
    "shira": (2e-4, 5e-4, 1e-3, 2e-3),
    "full": (2e-5, 5e-5, 1e-4, 2e-4),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="sample:rotten-tomatoes")
    parser.add_argument("--train-size", type=int, default=2000)
    parser.add_argument("--validation-size", type=int, default=1000)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--methods", default=",".join(RATES))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    config = load_config(
        options={
            "data.source": arguments.data,
            "data.train_size": arguments.train_size,
            "data.validation_size": arguments.validation_size,
            "data.max_length": arguments.max_length,
            "train.epochs": arguments.epochs,
        }
    )
    bench = Workbench.prepare(config, Silent())
    rows = []
    for name in arguments.methods.split(","):
        for rate in RATES[name]:
            best = [train(bench, name, rate, seed) for seed in range(arguments.seeds)]
            row = {"method": name, "learning_rate": rate, "validation_accuracy": best, "mean": statistics.mean(best)}
            rows.append(row)
            print(json.dumps(row), flush=True)
    result = {
        "arguments": {k: str(v) for k, v in vars(arguments).items() if k != "out"},
        "hardware": hardware(bench.runtime),
        "versions": versions(),
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def train(bench: Workbench, name: str, rate: float, seed: int) -> float:
    """Best validation accuracy of one training."""
    seed_everything(seed)
    encoder = bench.load_encoder(seed)
    method = METHODS[name]
    training = Training(
        method.prepare(encoder, method.options(), seed),
        bench.labelled("train"),
        bench.labelled("validation"),
        settings=bench.config.train,
        learning_rate=rate,
        seed=seed,
        runtime=bench.runtime,
    )
    return max(event.validation.accuracy for event in training.events() if isinstance(event, EpochInfo))


if __name__ == "__main__":
    main()
