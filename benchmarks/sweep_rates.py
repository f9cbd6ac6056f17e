"""Choose each method's default learning rate by a small search on validation rows. Test rows are never read.

Run: ``python benchmarks/sweep_rates.py --out benchmarks/results/rates.json``. Each method is trained at its default
rate, a third of it and three times it, and the range is extended while the best rate is at an edge. The score is the
best epoch's validation accuracy, averaged over seeds. Methods whose best rate differs from their default are listed at
the end; change the default by hand in the method's file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from feathertune.config import load_config
from feathertune.errors import ConfigError
from feathertune.methods import METHODS, Method
from feathertune.runtime import hardware, versions
from feathertune.study.compare import prepare
from feathertune.study.observe import Silent
from feathertune.study.planning.planned_method import PlannedMethod
from feathertune.study.running.trial import some_rows, trial
from feathertune.study.running.workbench import Prepared

STEP = 10**0.5
MOST_EXTENSIONS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sample:rotten-tomatoes")
    parser.add_argument("--base", default="sample:minilm")
    parser.add_argument("--train-size", type=int, default=700)
    parser.add_argument("--validation-size", type=int, default=500)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--methods", default=",".join(METHODS.names()))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    config = load_config(
        options={
            "data.source": arguments.data,
            "data.train_size": arguments.train_size,
            "data.validation_size": arguments.validation_size,
            "data.max_length": arguments.max_length,
            "base.id": arguments.base,
            "train.epochs": arguments.epochs,
        }
    )
    prepared = prepare(config, Silent())
    found = [search(METHODS[name], prepared, arguments) for name in arguments.methods.split(",")]
    result = {
        "arguments": {k: str(v) for k, v in vars(arguments).items() if k != "out"},
        "hardware": hardware(prepared.bench.runtime),
        "versions": versions(),
        "methods": found,
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for one in found:
        if one.get("best") != one["default"]:
            print(f"{one['method']}: default {one['default']}, best {one.get('best')} {one.get('error', '')}")


def search(method: Method, prepared: Prepared, arguments: argparse.Namespace) -> dict[str, Any]:
    """Try rates around a method's default until the best one is not at an edge."""
    default = method.options().learning_rate
    scores: dict[int, list[float]] = {}
    seconds = 0.0

    def mean(power: int) -> float:
        nonlocal seconds
        if power not in scores:
            options = method.options(learning_rate=rate(default, power))
            start = time.perf_counter()
            scores[power] = [score(method, options, seed, prepared, arguments) for seed in range(arguments.seeds)]
            seconds += time.perf_counter() - start
        return statistics.mean(scores[power])

    try:
        best = max((0, -1, 1), key=mean)
        for _ in range(MOST_EXTENSIONS):
            if best not in (min(scores), max(scores)):
                break
            best = max((best, best + (1 if best > 0 else -1)), key=mean)
    except ConfigError as error:
        return {"method": method.name, "default": default, "error": str(error)}
    row = {
        "method": method.name,
        "default": default,
        "best": rate(default, best),
        "accuracies": {str(rate(default, power)): scores[power] for power in sorted(scores)},
        "seconds": seconds,
    }
    print(json.dumps(row), flush=True)
    return row


def rate(default: float, power: int) -> float:
    """Return the default rate times a power of the step, rounded to one digit."""
    return float(f"{default * STEP**power:.1g}")


def score(method: Method, options: Any, seed: int, prepared: Prepared, arguments: argparse.Namespace) -> float:
    """Return the validation accuracy of one training's best epoch."""
    parts = some_rows(prepared.bench, 0, train=arguments.train_size, validation=arguments.validation_size)
    spec = PlannedMethod(method, options).run(seed)
    return trial(spec, prepared, parts, settings=prepared.study.config.train).validation.accuracy


if __name__ == "__main__":
    main()
