"""Measure the training time needed to match full fine-tuning: seconds to a validation accuracy.

Run: ``python benchmarks/bench_time_to_accuracy.py``. For a shorter run: ``--seeds 1 --train-rows 200 --max-epochs 1``.
The target is the accuracy of the tuned Trainer's full fine-tuning (its best evaluation, mean over the seeds) minus half
a point. All contestants are evaluated on all validation rows after each quarter of an epoch, and evaluation time
counts. So does feathertune's work before its first step: packing weights and caching hidden states. Loading and
tokenising are equal for all, and do not count. Each run is a separate process, and the contestants take turns for each
seed. Writes ``results/time-to-accuracy-<dataset>.json`` with all curves.

Validation rows determine only the stopping time. No test rows are read, and no claim about quality is made.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from children import Spec, answer, load_problem, run_child
from contestants import BATCH_SIZE, RATES, TO_ACCURACY, Contestant, choose

RESULTS = Path(__file__).with_name("results")
RIVAL = "trainer-full-tuned"
MARGIN = 0.005


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", default="imdb,rotten-tomatoes")
    parser.add_argument("--contestants", help=f"comma-separated names, including {RIVAL}")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train-rows", type=int, help="training rows; default: set by the data set")
    parser.add_argument("--max-epochs", type=int, default=3)
    parser.add_argument(
        "--tutorial-optim", help="the tutorial Trainer's optimizer, such as adamw_torch; default: Trainer's"
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        answer(_curve(Spec(**json.loads(arguments.child))))
        return
    from engine_cases import TO_ACCURACY_CASES

    contestants, left_out = choose(TO_ACCURACY, arguments.contestants)
    if all(one.name != RIVAL for one in contestants):
        raise SystemExit(f"{RIVAL} sets the target accuracy. Include it in --contestants.")
    print(*left_out, sep="\n")
    arguments.results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-accuracy-") as folder:
        for name in arguments.datasets.split(","):
            if name not in TO_ACCURACY_CASES:
                raise SystemExit(f"Unknown data set: {name}. Expected one of: {', '.join(TO_ACCURACY_CASES)}.")
            result = _dataset(TO_ACCURACY_CASES[name], contestants, arguments, Path(folder), left_out)
            path = arguments.results / f"time-to-accuracy-{name}.json"
            path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _curve(spec: Spec) -> dict[str, Any]:
    """Train one contestant, in the child process."""
    contestant = next(one for one in TO_ACCURACY if one.name == spec.contestant)
    problem = load_problem(spec.data)
    if contestant.side == "trainer":
        import trainer_side

        return trainer_side.curve(spec, contestant, problem)
    import feathertune_side

    return feathertune_side.curve(spec, contestant, problem)


def _dataset(
    case: Any,
    contestants: list[Contestant],
    arguments: argparse.Namespace,
    folder: Path,
    left_out: list[str],
) -> dict[str, Any]:
    from engine_cases import encoder_for, write_problem

    from feathertune.config import EngineConfig
    from feathertune.runtime import choose_runtime, hardware, versions

    runtime = choose_runtime(EngineConfig(device="cpu"))
    base = encoder_for(case, folder)
    problem = write_problem(case, folder, base, rows=arguments.train_rows)
    runs: dict[str, list[dict[str, Any]]] = {one.name: [] for one in contestants}
    for seed in range(arguments.seeds):
        for one in contestants:
            spec = Spec(
                contestant=one.name,
                ablation=False,
                data=str(folder / f"{case.name}.npz"),
                base=base,
                max_length=case.max_length,
                bf16=runtime.dtype == "bf16",
                tutorial_optim=arguments.tutorial_optim,
                scratch=str(folder / "trainer"),
                seed=seed,
                epochs=arguments.max_epochs,
            )
            found = run_child(__file__, spec)
            runs[one.name].append(found)
            said = found.get("error") or f"best {best(found):.3f}, {found['seconds']:.0f} s in all"
            print(f"{case.name}, seed {seed}: {one.name}: {said}", flush=True)
    wanted = accuracy_to_reach(runs[RIVAL])
    result = {
        "dataset": case.name,
        "title": case.title,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "benchmarks/bench_time_to_accuracy.py", *sys.argv[1:]]),
        "train_rows": len(problem.train),
        "validation_rows": len(problem.validation),
        "max_length": case.max_length,
        "batch_size": BATCH_SIZE,
        "learning_rates": RATES,
        "epochs": arguments.max_epochs,
        "left_out": left_out,
        "accuracy_to_reach": wanted,
        "hardware": hardware(runtime),
        "versions": versions(),
        "table": [row(one.name, runs[one.name], wanted) for one in contestants],
        "runs": runs,
    }
    print("\n" + _text(result), flush=True)
    return result


def accuracy_to_reach(yardstick: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the reference's mean best accuracy minus the margin; ``None`` if all its runs failed."""
    found = [best(run) for run in yardstick if "error" not in run]
    return statistics.mean(found) - MARGIN if found else None


def best(run: Mapping[str, Any]) -> float:
    """Return the highest accuracy among a run's evaluations."""
    return max(point["accuracy"] for point in run["curve"])


def seconds_to(run: Mapping[str, Any], accuracy: float | None) -> float | None:
    """Return the seconds until the first evaluation that reached the accuracy; ``None`` if none did."""
    if accuracy is None or "error" in run:
        return None
    return next((point["seconds"] for point in run["curve"] if point["accuracy"] >= accuracy), None)


def row(name: str, runs: Sequence[Mapping[str, Any]], accuracy: float | None) -> dict[str, Any]:
    """Return one contestant's row; seeds that did not reach the accuracy count as the slowest in its median."""
    seconds = [seconds_to(run, accuracy) for run in runs]
    in_order = sorted(seconds, key=lambda value: float("inf") if value is None else value)
    whole = [run for run in runs if "error" not in run]
    return {
        "name": name,
        "seconds": seconds,
        "reached": sum(value is not None for value in seconds),
        # With an even number of seeds, take the slower middle one: a seed that never got there has no mean.
        "seconds_median": in_order[len(in_order) // 2],
        "best_accuracies": [best(run) for run in whole],
        "seconds_of_all_epochs": [run["seconds"] for run in whole],
    }


def _text(result: Mapping[str, Any]) -> str:
    wanted = result["accuracy_to_reach"]
    aim = "no accuracy, the reference failed" if wanted is None else f"{wanted:.4f}"
    lines = [
        f"{result['title']}, {result['train_rows']:,} rows: to {aim}",
        f"{'':26}{'seconds':>9}{'reached':>9}{'best':>8}   by seed",
    ]
    for one in result["table"]:
        middle = one["seconds_median"]
        accuracies = one["best_accuracies"]
        mean = f"{statistics.mean(accuracies):.4f}" if accuracies else "failed"
        by_seed = ", ".join("-" if value is None else f"{value:.1f}" for value in one["seconds"])
        reached = f"{one['reached']} of {len(one['seconds'])}"
        lines.append(
            f"{one['name']:26}{'-' if middle is None else f'{middle:.1f}':>9}{reached:>9}{mean:>8}   {by_seed}"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
