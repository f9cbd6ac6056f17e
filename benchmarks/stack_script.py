"""Fit and score the row `stack` alone, without a study. `bench_end_to_end.py` times the whole process.

Run: ``python benchmarks/stack_script.py DATA.csv --base sample:minilm --max-length 64``.
"""

from __future__ import annotations

import argparse
import json

import feathertune
from feathertune.records import Scores
from feathertune.study.compare import prepare
from feathertune.study.observe import Silent
from feathertune.study.running.baseline_runs import run_baseline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--base", required=True)
    parser.add_argument("--max-length", type=int, default=64)
    args = parser.parse_args()
    config = feathertune.load_config(
        options={
            "base": args.base,
            "data": {"source": args.data, "split_column": "split", "max_length": args.max_length},
            "study": {"methods": (), "metric": "accuracy"},
        }
    )
    prepared = prepare(config, Silent())
    spec = next(run for run in prepared.plan.runs if run.method == "stack")
    scores = run_baseline(spec, prepared, Silent()).scores
    print(json.dumps({"validation": accuracy(scores.validation), "test": accuracy(scores.test)}))


def accuracy(scores: Scores | None) -> float:
    """Return the accuracy of scores that exist."""
    assert scores is not None
    found: float = scores.accuracy  # type: ignore[union-attr]
    return found


if __name__ == "__main__":
    main()
