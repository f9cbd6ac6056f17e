"""Measure training speed of feathertune's engine against transformers' Trainer, with and without PEFT, on a CPU.

Run: ``make bench-engine``, or ``python benchmarks/bench_engine.py --cases minilm-27 --contestants lora,full``. In each
round, all contestants run in turn, each in a fresh process, over the same rows in batches of 16. The measured time is
one epoch of training steps, from drawing the first batch to the end of the last step, after three warm-up steps that
change no weight. Contestants that cache hidden states run three epochs; computing the cache counts, and the extra cost
of the first epoch is spread over the three. Writes ``results/engine-<case>.json``, or
``results/engine-<case>-ablation.json`` with ``--ablation``. See `contestants` and `operations`.

Both sides use torch's default number of threads. `gpu_check.py` runs this on a GPU with ``--device cuda``.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from children import Spec, answer, load_problem, measure_peak, run_child, run_peak
from contestants import ABLATION, BATCH_SIZE, CONTESTANTS, Contestant, choose

RESULTS = Path(__file__).with_name("results")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="minilm-27,minilm-256,bert-base-27,bert-base-256")
    parser.add_argument("--contestants", help="comma-separated names; default: all")
    parser.add_argument("--ablation", action="store_true", help="run lora, and lora without each part of the engine")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, help="training rows; default: set by the case")
    parser.add_argument(
        "--tutorial-optim", help="the tutorial Trainer's optimizer, such as adamw_torch; default: Trainer's"
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        answer(_measure(Spec(**json.loads(arguments.child))))
    elif arguments.peak:
        answer(measure_peak(arguments.device))
    else:
        _measure_all(arguments)


def _measure(spec: Spec) -> dict[str, Any]:
    """Measure one contestant, in the child process."""
    contestant = next(one for one in (ABLATION if spec.ablation else CONTESTANTS) if one.name == spec.contestant)
    problem = load_problem(spec.data)
    if contestant.side == "trainer":
        import trainer_side

        return trainer_side.measure(spec, contestant, problem)
    import feathertune_side

    return feathertune_side.measure(spec, contestant, problem)


def _measure_all(arguments: argparse.Namespace) -> None:
    from engine_cases import CASES

    contestants, left_out = choose(ABLATION if arguments.ablation else CONTESTANTS, arguments.contestants)
    if arguments.device == "cpu":  # torch.compile was no faster there (LOG.md)
        contestants = [one for one in contestants if not one.compiled]
    print(*left_out, sep="\n")
    names = arguments.cases.split(",")
    if unknown := [name for name in names if name not in CASES]:
        raise SystemExit(f"Unknown case: {', '.join(unknown)}. Expected one of: {', '.join(CASES)}.")
    arguments.results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-engine-") as folder:
        for name in names:
            result = _case(CASES[name], contestants, arguments, Path(folder), left_out)
            path = arguments.results / f"engine-{name}{'-ablation' if arguments.ablation else ''}.json"
            path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _case(
    case: Any,
    contestants: list[Contestant],
    arguments: argparse.Namespace,
    folder: Path,
    left_out: list[str],
) -> dict[str, Any]:
    import engine_summary
    from engine_cases import encoder_for, write_problem

    from feathertune.config import EngineConfig
    from feathertune.runtime import choose_runtime, hardware, versions

    runtime = choose_runtime(EngineConfig(device=arguments.device))
    base = encoder_for(case, folder)
    problem = write_problem(case, folder, base, rows=arguments.rows)
    rounds: dict[str, list[dict[str, Any]]] = {one.name: [] for one in contestants}
    peaks = []
    for number in range(arguments.rounds):
        peaks.append(run_peak(__file__, arguments.device))
        for one in contestants:
            spec = Spec(
                contestant=one.name,
                ablation=arguments.ablation,
                data=str(folder / f"{case.name}.npz"),
                base=base,
                max_length=case.max_length,
                bf16=runtime.dtype == "bf16",
                tutorial_optim=arguments.tutorial_optim,
                scratch=str(folder / "trainer"),
                rate_scale=case.rate_scale,
                device=arguments.device,
            )
            found = run_child(__file__, spec)
            rounds[one.name].append(found)
            said = found.get("error") or f"{engine_summary.epoch_seconds(found):.2f} s an epoch"
            print(f"{case.name}, round {number + 1}: {one.name}: {said}", flush=True)
    whole = {name: [one for one in found if "error" not in one] for name, found in rounds.items()}
    peak = max(speed for one in peaks for speed in one.values())
    tokens = problem.train.n_tokens
    pairs = [(one.name, "lora") for one in contestants if one.name != "lora"]
    result = {
        "case": case.name,
        "title": case.title,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "benchmarks/bench_engine.py", *sys.argv[1:]]),
        "source": case.source,
        "rows": len(problem.train),
        "tokens": tokens,
        "max_length": case.max_length,
        "batch_size": BATCH_SIZE,
        "left_out": left_out,
        "peak_flop_per_s": peak,
        "peaks": peaks,
        "hardware": hardware(runtime),
        "versions": versions(),
        "table": [
            engine_summary.row(one, whole[one.name], tokens=tokens, peak=peak) for one in contestants if whole[one.name]
        ],
        "ratios": engine_summary.ratios(rounds, pairs) if arguments.ablation else engine_summary.ratios(rounds),
        "checks": engine_summary.checks(contestants, rounds),
        "failed": [(name, one["error"]) for name, found in rounds.items() for one in found if "error" in one],
        "rounds": rounds,
    }
    print("\n" + engine_summary.text(result), flush=True)
    return result


if __name__ == "__main__":
    main()
