"""Compare the cost estimate with each method's actual time and memory.

Run: ``taskset -c 0 python benchmarks/bench_cost.py``, a few minutes on one core. For each case, ``compare --dry-run``
saves its estimate in the study folder, and the study then runs in a separate process, ``--rounds`` times. Writes
``results/cost-<study>.json``, or ``cost-<study>-wall.json`` with ``--clock wall``.

``--clock processor`` measures CPU time. All work runs on one thread, so this is the wall-clock time on an otherwise
idle machine. ``--clock wall`` measures elapsed time, which on a shared machine also depends on other jobs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
_SENTENCES = "--train-size 400 --validation-size 150 --test-size 300 --epochs 2"
_REVIEWS = "--train-size 400 --validation-size 150 --test-size 300 --max-length 256 --epochs 2"
SETTINGS = {
    "rotten-tomatoes": ["sample:rotten-tomatoes", "--base", "sample:minilm", *_SENTENCES.split()],
    "imdb": ["sample:imdb", "--base", "sample:minilm", *_REVIEWS.split()],
}
# A study can include each method only once.
CASES = {
    "rotten-tomatoes": {"whole": ["--methods", "lora,full"], "top": ["--methods", "lora", "--top-layers", "3"]},
    "imdb": {"whole": ["--methods", "lora,full"]},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", choices=SETTINGS, default="rotten-tomatoes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=("processor", "wall"), default="processor")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        _child(arguments.clock, arguments.child)
        return
    settings, cases = SETTINGS[arguments.study], CASES[arguments.study]
    rows: list[dict[str, Any]] = []
    studies = []
    with tempfile.TemporaryDirectory(prefix="bench-cost-") as scratch:
        for number in range(arguments.rounds):
            for case, options in cases.items():
                folder = Path(scratch, f"{case}-{number}")
                found = _round(arguments.clock, [*settings, *options, "--out", str(folder)], folder)
                rows += [{"case": case, "round": number, **row} for row in found.pop("rows")]
                studies.append({"case": case, "round": number, **found})
                mine = [row for row in rows if (row["case"], row["round"]) == (case, number)]
                print(*map(_line, mine), sep="\n", flush=True)
        versions, hardware = studies[0]["versions"], studies[0]["hardware"]
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "benchmarks/bench_cost.py", *sys.argv[1:]]),
        "settings": settings,
        "cases": cases,
        "clock": arguments.clock,
        "hardware": hardware,
        "versions": versions,
        "summary": summary(rows),
        "studies": [{key: s[key] for key in s if key not in ("versions", "hardware")} for s in studies],
        "rows": rows,
    }
    arguments.results.mkdir(parents=True, exist_ok=True)
    path = arguments.results / f"cost-{arguments.study}{'-wall' if arguments.clock == 'wall' else ''}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["summary"], indent=1))


def _child(clock: str, command: Sequence[str]) -> None:
    """Run the command line, measured by the chosen clock."""
    if clock == "processor":
        time.perf_counter = time.process_time
    from feathertune.cli import main as feathertune

    sys.argv = ["feathertune", *command]
    feathertune()


def _round(clock: str, words: Sequence[str], folder: Path) -> dict[str, Any]:
    """Return one estimate and the measured costs of the study."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

    def run(*more: str) -> dict[str, float]:
        command = [sys.executable, __file__, "--clock", clock, "--child", "compare", *words, *more]
        start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
        return {"wall": time.monotonic() - start, "processor": processor}

    estimate_took, study_took = run("--dry-run"), run()
    study = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    cost = json.loads((folder / "cost_estimate.json").read_text(encoding="utf-8"))
    parts = {row["method"]: row["seconds"] for row in cost["rows"]}
    return {
        "versions": study["versions"],
        "hardware": study["hardware"],
        "study_seconds_predicted": cost["study_seconds"],
        "measured_seconds": cost["measured_seconds"],
        "process_seconds": {"estimate": estimate_took, "study": study_took},
        "rows": [
            {
                "run": run_["id"],
                "seconds_predicted": run_["predicted_seconds"],
                "seconds": run_["seconds"]["total"],
                "memory_predicted_bytes": run_["predicted_memory_bytes"],
                "memory_bytes": run_["peak_memory_bytes"],
                "parts_predicted": parts[run_["method"]],
                "parts": run_["seconds"],
            }
            for run_ in study["runs"]
        ],
    }


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the median and the largest relative prediction error of each run."""
    found = {}
    for case, run in dict.fromkeys((row["case"], row["run"]) for row in rows):
        mine = [row for row in rows if (row["case"], row["run"]) == (case, run)]
        seconds = [row["seconds_predicted"] / row["seconds"] - 1 for row in mine]
        memory = [row["memory_predicted_bytes"] / row["memory_bytes"] - 1 for row in mine]
        found[f"{case}: {run}"] = {
            "seconds": statistics.median(row["seconds"] for row in mine),
            "seconds_predicted": statistics.median(row["seconds_predicted"] for row in mine),
            "seconds_off_median": statistics.median(seconds),
            "seconds_off_worst": max(seconds, key=abs),
            "memory_bytes": statistics.median(row["memory_bytes"] for row in mine),
            "memory_predicted_bytes": statistics.median(row["memory_predicted_bytes"] for row in mine),
            "memory_off_worst": max(memory, key=abs),
        }
    return found


def _line(row: Mapping[str, Any]) -> str:
    return (
        f"{row['case']:6}{row['run']:15}{row['seconds_predicted']:8.2f} s predicted {row['seconds']:8.2f} s "
        f"{row['seconds_predicted'] / row['seconds'] - 1:+7.1%}"
        f"{row['memory_predicted_bytes'] / 1e6:9.0f} MB predicted "
        f"{row['memory_bytes'] / 1e6:6.0f} MB {row['memory_predicted_bytes'] / row['memory_bytes'] - 1:+7.1%}"
    )


if __name__ == "__main__":
    main()
