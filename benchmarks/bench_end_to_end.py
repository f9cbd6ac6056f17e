"""Seconds from the start of a process to a saved, tested model, and its accuracy: the Trainer's scripts and ours.

Run: ``python benchmarks/bench_end_to_end.py --data public-data --out benchmarks/results/end-to-end-minilm.json``, on
quiet cores. Each ``*.csv`` of the folder (`public_data.py` makes them) and both samples are measured; for each data set
and seed, every contestant runs in turn, each in its own process. All train for the same number of epochs at most,
keep the epoch with the best validation accuracy, and open the test rows once, at the end. feathertune's processes also
prove the saved bundle; `stack` saves none.

A light row has reached full fine-tuning if its mean validation accuracy is at most half a point below that of the tuned
Trainer. The fastest such row of a data set is compared with that Trainer; its test accuracy chooses nothing.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from bench_accuracy import SAMPLES, length_of, mean_difference, sources, write_rows
from children import FEATHERTUNES_OWN

RIVAL = "trainer-full-tuned"
PEFT_SCRIPTS = ("trainer-lora-tuned", "trainer-lora-same-recipe")
MARGIN = 0.5  # points
# Contestants that a mean over data sets is compared for, and against which.
PAIRS = (
    ("lora", "full"),
    ("lora+tfidf", "full"),
    ("stack", "full"),
    ("full", RIVAL),
    ("lora", RIVAL),
    ("lora+tfidf", RIVAL),
    *(("lora", script) for script in PEFT_SCRIPTS),
)


@dataclass(frozen=True)
class Contestant:
    """One way to a model: a script of the Trainer, or one of our methods; `epochs` replaces the common number."""

    name: str
    trainer: tuple[str, ...] | None = None
    method: str | None = None
    epochs: int | None = None

    @property
    def is_light(self) -> bool:
        """Return whether it is ours and does not train the whole base."""
        return self.trainer is None and self.method != "full"


CONTESTANTS = (
    Contestant("trainer-full-tuned", trainer=("--tuned",)),
    Contestant("trainer-lora-tuned", trainer=("--lora", "--tuned")),
    # With the layers of our `lora`, and its rate in a training of 150 steps.
    Contestant("trainer-lora-same-recipe", trainer=("--lora", "--tuned", "--all-linear", "--rate", "0.0018")),
    Contestant("trainer-lora-tutorial", trainer=("--lora",)),
    Contestant("full", method="full"),
    Contestant("lora", method="lora"),
    Contestant("lora, 1 epoch", method="lora", epochs=1),
    Contestant("lora+tfidf", method="lora+tfidf"),
    Contestant("lora+tfidf, 1 epoch", method="lora+tfidf", epochs=1),
    Contestant("lora:top_layers=3", method="lora:top_layers=3"),
    Contestant("lora:top_layers=3+tfidf", method="lora:top_layers=3+tfidf"),
    Contestant("stack"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of CSV files")
    parser.add_argument("--only", default="", help="names with commas; by default all")
    parser.add_argument("--contestants", default=",".join(one.name for one in CONTESTANTS if "," not in one.name))
    parser.add_argument("--base", default="sample:minilm")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train-size", type=int, default=1_000)
    parser.add_argument("--test-size", type=int, default=1_500)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--max-length", type=int, help="tokens of a text, in place of each data set's own")
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-end-to-end"), help="of the rows")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.develop = False
    csv.field_size_limit(2**30)
    from feathertune.config import EngineConfig
    from feathertune.runtime import choose_runtime, hardware, versions

    runtime = choose_runtime(EngineConfig(device="cpu"))
    args.bf16 = runtime.dtype == "bf16"
    chosen = [one for one in CONTESTANTS if one.name in args.contestants.split(",") or "," in one.name]
    old = json.loads(args.out.read_text()) if args.out.exists() else {"runs": {}}
    runs: dict[str, dict[str, list[dict[str, Any]]]] = old["runs"]
    for name, source in sources(args):
        if args.only and name not in args.only.split(","):
            continue
        data = Path(source) if name not in sample_names() else written_sample(source, args)
        of_data = runs.setdefault(name, {})
        for seed in range(args.seeds):
            for one in chosen:
                found = of_data.setdefault(one.name, [])
                if len(found) > seed or (one.method is None and one.trainer is None and seed):  # `stack` has no seed
                    continue
                found.append(measured(one, data, length_of(name, args), seed, args))
                print(name, seed, one.name, found[-1], flush=True)
        settings = {key: str(value) for key, value in vars(args).items()}
        record = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": shlex.join(["python", "benchmarks/bench_end_to_end.py", *sys.argv[1:]]),
            "settings": settings,
            **summarised(runs),
            "runs": runs,
            "hardware": hardware(runtime),
            "versions": versions(),
        }
        args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record["mean_differences"], indent=1), json.dumps(record["time_to_full"], indent=1))


def sample_names() -> tuple[str, ...]:
    """Return the names of the samples among the data sets."""
    return tuple(source.partition(":")[2] for source in SAMPLES)


def written_sample(source: str, args: argparse.Namespace) -> Path:
    """Write a sample's rows as a CSV that every contestant reads."""
    from feathertune.config import load_config
    from feathertune.data.from_config import load_sources, split_sources

    sizes = {"train_size": args.train_size, "validation_size": args.train_size // 5, "test_size": args.test_size}
    config = load_config(options={"data": {"source": source, **sizes}})
    splits = split_sources(config.data, *load_sources(config.data))
    path: Path = args.folder / f"{source.partition(':')[2]}-{args.train_size}-{args.test_size}.csv"
    kept = {name: splits[name] for name in ("validation", "train", "test")}  # type: ignore[literal-required]
    write_rows(path, {n: zip(p.texts, (splits.labels[i] for i in p.labels), strict=True) for n, p in kept.items()})
    return path


def measured(one: Contestant, data: Path, max_length: int, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Run a contestant's process; return its seconds and accuracies, or its error."""
    environment = {key: value for key, value in os.environ.items() if key != FEATHERTUNES_OWN}
    environment.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    out = Path(tempfile.mkdtemp(prefix="bench-end-to-end-"))
    try:
        command = command_of(one, data, out, max_length, seed, args)
        begin = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        seconds = time.perf_counter() - begin
    finally:
        shutil.rmtree(out, ignore_errors=True)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    return {"seconds": round(seconds, 2), **accuracies(done.stdout)}


def command_of(
    one: Contestant, data: Path, out: Path, max_length: int, seed: int, args: argparse.Namespace
) -> list[str]:
    """Return the command of a contestant."""
    here, base = Path(__file__).parent, args.base
    epochs, length = str(one.epochs or args.epochs), str(max_length)
    if one.trainer is not None:
        from feathertune.data.sources.samples import sample_encoder_path

        path = str(sample_encoder_path(base.partition(":")[2])) if base.startswith("sample:") else base
        script = [str(here / "trainer_script.py"), str(data), "--base", path, "--out", str(out), *one.trainer]
        script += ["--bf16"] * (args.bf16 and "--tuned" in one.trainer)
        return [sys.executable, *script, "--epochs", epochs, "--max-length", length, "--seed", str(seed)]
    if one.method is None:
        return [sys.executable, str(here / "stack_script.py"), str(data), "--base", base, "--max-length", length]
    command = ["train", str(data), "--method", one.method, "--base", base, "--out", str(out / "bundle"), "--json"]
    settings = ["--split-column", "split", "--max-length", length, "--seed", str(seed), "--epochs", epochs]
    return [sys.executable, "-m", "feathertune", *command, *settings]


def accuracies(output: str) -> dict[str, float]:
    """Return the accuracies that a process wrote, on validation and test rows."""
    try:
        found = json.loads(output)
    except json.JSONDecodeError:  # the Trainer prints its evaluations before
        found = json.loads(output.splitlines()[-1])
    return {
        name: round(float(value["accuracy"] if isinstance(value, dict) else value), 6) for name, value in found.items()
    }


def summarised(runs: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]) -> dict[str, Any]:
    """Return means of each data set, mean differences over data sets, and times to full fine-tuning's accuracy."""
    data = {name: {one: means(found) for one, found in of_data.items()} for name, of_data in runs.items()}
    differences = {
        f"{one} - {other}": mean_difference([d[one]["test"] - d[other]["test"] for d in data.values()])
        for one, other in PAIRS
        if all(one in d and other in d for d in data.values())
    }
    reached = {name: fastest_as_good(d) for name, d in data.items() if RIVAL in d}
    ratios = [found["times_as_fast"] for found in reached.values() if found is not None]
    against_peft = {
        script: {name: against(d[script], d["lora"]) for name, d in data.items() if {"lora", script} <= set(d)}
        for script in PEFT_SCRIPTS
    }
    geometric = round(float(np.exp(np.mean(np.log(ratios)))), 2) if ratios else None
    return {
        "data": data,
        "mean_differences": differences,
        "time_to_full": {"geometric_mean": geometric, "by_data": reached},
        "lora_against_peft": against_peft,
    }


def means(found: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the mean accuracies in percent and the median seconds of a contestant's runs that ended."""
    ended = [run for run in found if "error" not in run]
    return {
        "seconds": round(statistics.median(run["seconds"] for run in ended), 2),
        **{name: round(100 * statistics.mean(run[name] for run in ended), 2) for name in ("validation", "test")},
    }


def fastest_as_good(of_data: Mapping[str, Mapping[str, float]]) -> dict[str, Any] | None:
    """Return the fastest light row that reached full fine-tuning on validation rows, against the tuned Trainer."""
    rival = of_data[RIVAL]
    light = {one.name for one in CONTESTANTS if one.is_light}
    good = [
        name for name, found in of_data.items() if name in light and found["validation"] >= rival["validation"] - MARGIN
    ]
    if not good:
        return None
    name = min(good, key=lambda name: of_data[name]["seconds"])
    return {"row": name, **against(rival, of_data[name])}


def against(rival: Mapping[str, float], ours: Mapping[str, float]) -> dict[str, float]:
    """Return how many times as fast as a rival ours is, and the difference of their test accuracies in points."""
    return {
        "times_as_fast": round(rival["seconds"] / ours["seconds"], 2),
        "test_difference": round(ours["test"] - rival["test"], 2),
    }


if __name__ == "__main__":
    main()
