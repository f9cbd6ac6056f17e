"""Compare feathertune's methods with SetFit on few labels, with the same encoder, draws and test rows.

Create SetFit's environment with ``python -m venv setfit && setfit/bin/pip install setfit``, then run ``python
benchmarks/bench_few_labels.py --setfit-python setfit/bin/python``. For a shorter run: ``--repeats 2 --shots 8``.

For each number of rows per class and each of ten draws from the training rows of rotten-tomatoes, SetFit and each
method are trained in turn on the draw and scored on the same test rows. The draws match ``feathertune compare --shots K
--seeds 10``. SetFit is the original package with its default settings (one epoch over all pairs, batch size 16,
learning rate 2e-5, logistic regression on the embeddings). feathertune's methods use their defaults, and nothing is
tuned.

Both sides are long-running processes, so import time does not count. Each trains once, unmeasured, before its first
draw (SetFit on four rows per class). `seconds` is the wall-clock time from texts in memory and weights on disk to a
model ready to predict: loading the encoder, tokenising, training. Predicting the test rows does not count.
`loading_seconds` is the share of it spent on loading the encoder; the probe does not report it. With 64 rows per class
SetFit takes about 500 steps, or minutes on two cores, so every finished training is saved in ``runs/bench-few-labels``
with its date. The same command resumes; to train a contestant again, delete its file there. Writes
``results/few-labels-<rows per class>.json`` after each number of rows.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from answers import right_or_wrong
from scipy import stats

RESULTS = Path(__file__).with_name("results")
SETFIT = "setfit"
_WARM_ROWS = 4
SOURCE, BASE, MAX_LENGTH = "sample:rotten-tomatoes", "sample:minilm", 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--setfit-python", type=Path, required=True, help="Python of an environment with setfit installed"
    )
    parser.add_argument("--shots", default="8,64")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--test-rows", type=int, default=1000)
    parser.add_argument("--methods", default="probe,full:read=mean")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/bench-few-labels"), help="folder for finished trainings"
    )
    arguments = parser.parse_args()
    from few_labels_side import Study

    from feathertune.config import EngineConfig
    from feathertune.runtime import choose_runtime, hardware, versions

    methods = arguments.methods.split(",")
    arguments.results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-few-labels-") as scratch:
        for shots in map(int, arguments.shots.split(",")):
            study = Study(SOURCE, BASE, shots, arguments.test_rows, methods, MAX_LENGTH, Path(scratch, str(shots)))
            with SetFit(arguments.setfit_python, study.encoder_folder, Path(scratch)) as setfit:
                contestants = {SETFIT: setfit.train, **{name: study.trainer(name) for name in methods}}
                kept = Kept(arguments.folder, f"{shots}-{arguments.test_rows}", contestants)
                runs = in_turn(contestants, study, arguments.repeats, kept)
                setfit_versions = setfit.versions
            result = {
                "dataset": SOURCE,
                "base": BASE,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                # The path of the other Python is specific to this machine.
                "command": shlex.join(["python", f"benchmarks/{Path(__file__).name}", *sys.argv[1:]]).replace(
                    str(arguments.setfit_python), "PYTHON"
                ),
                "shots": shots,
                "train_rows": 2 * shots,
                "test_rows": arguments.test_rows,
                "max_length": MAX_LENGTH,
                "repeats": arguments.repeats,
                "hardware": hardware(choose_runtime(EngineConfig(device="cpu"))),
                "versions": {"feathertune": versions(), "setfit": setfit_versions},
                "table": table(runs),
                "runs": without_answers(runs),
            }
            print(text(shots, result["table"]), flush=True)
            path = arguments.results / f"few-labels-{shots}.json"
            path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def few_of(draw: Any) -> Any:
    """Return a few rows of each class, enough to load everything a training needs."""
    rows = np.concatenate([np.flatnonzero(draw.labels == label)[:_WARM_ROWS] for label in np.unique(draw.labels)])
    return replace(draw, texts=[draw.texts[row] for row in rows], labels=draw.labels[rows])


class Kept:
    """Finished trainings: one JSON Lines file per contestant, with one line per draw, in order.

    Args:
        folder: Folder of the files; created if missing.
        key: Part of the file name that distinguishes trainings of the same contestant.
        names: Names of the contestants.
    """

    def __init__(self, folder: Path, key: str, names: Iterable[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._paths = {name: folder / f"{key}-{name.replace(':', '-').replace('=', '-')}.jsonl" for name in names}

    def runs(self, name: str) -> list[dict[str, Any]]:
        """Return a contestant's finished trainings."""
        path = self._paths[name]
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []

    def add(self, name: str, run: Mapping[str, Any]) -> None:
        """Save the training on the next draw."""
        with self._paths[name].open("a", encoding="utf-8") as file:
            file.write(json.dumps(run) + "\n")


def in_turn(contestants: Mapping[str, Any], study: Any, repeats: int, kept: Kept) -> dict[str, list[dict[str, Any]]]:
    """Train each contestant on each missing draw; a first training on a separate draw is not counted."""
    runs: dict[str, list[dict[str, Any]]] = {name: kept.runs(name)[:repeats] for name in contestants}
    warm: set[str] = set()
    for seed in range(repeats):
        draw = study.draw(seed)
        for name, train in contestants.items():
            if seed >= len(runs[name]):
                if name not in warm:
                    train(few_of(study.draw(repeats)))
                    warm.add(name)
                    print(f"{study.shots} rows per class: {name} is warmed up", flush=True)
                run = {**train(draw), "date": datetime.now(UTC).isoformat(timespec="seconds")}
                kept.add(name, run)
                runs[name].append(run)
            run = runs[name][seed]
            run["correct"] = np.asarray(run.pop("answers")) == draw.test_labels
            run["accuracy"] = float(run["correct"].mean())
            said = f"{run['accuracy']:.1%} in {run['seconds']:.2f} s"
            print(f"{study.shots} rows per class, draw {seed}: {name}: {said}", flush=True)
    return runs


def table(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return one row per contestant; feathertune's rows include the difference from SetFit.

    `difference` is paired by draw. `over_draws_95` is Student's interval over the draws, on these test rows.
    `over_rows` is a study's interval, which also covers other test rows (`feathertune.statistics.inference`); it treats
    both sides' draws as independent, so it is too wide for equal draws.
    """
    from feathertune.statistics.inference import paired_difference, seed_interval

    answers = {name: right_or_wrong(np.stack([run["correct"] for run in some])) for name, some in runs.items()}
    rows = []
    for name, some in runs.items():
        accuracy = seed_interval(answers[name])
        row: dict[str, Any] = {
            "name": name,
            "accuracy": accuracy.mean,
            "score_sd": accuracy.sd,
            "accuracy_95": [accuracy.low, accuracy.high],
            "seconds_median": statistics.median(run["seconds"] for run in some),
            "loading_seconds_median": statistics.median(run["loading_seconds"] for run in some),
        }
        if name != SETFIT:
            other = runs[SETFIT]
            apart = np.array([one["accuracy"] - its["accuracy"] for one, its in zip(some, other, strict=True)])
            over = paired_difference(answers[name], answers[SETFIT])
            row["difference"] = {
                "mean": float(apart.mean()),
                "over_draws_95": over_draws(apart),
                "over_rows_95": [over.low, over.high],
                "draws_won": int((apart > 0).sum()),
                "draws_lost": int((apart < 0).sum()),
            }
            times = [its["seconds"] / one["seconds"] for one, its in zip(some, other, strict=True)]
            row["times_as_fast"] = {"median": statistics.median(times), "least": min(times), "most": max(times)}
        rows.append(row)
    return rows


def over_draws(apart: np.ndarray) -> list[float] | None:
    """Return Student's 95% interval of the mean over draws, or None for a single draw."""
    if len(apart) < 2:
        return None
    half = float(stats.t.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / np.sqrt(len(apart)))
    return [float(apart.mean()) - half, float(apart.mean()) + half]


def without_answers(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Return the runs without their answers, as saved."""
    return {name: [{k: v for k, v in run.items() if k != "correct"} for run in some] for name, some in runs.items()}


def text(shots: int, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table as text."""
    lines = [f"\n{shots} rows per class"]
    for row in rows:
        low, high = row["accuracy_95"]
        line = f"{row['name']:20} {row['accuracy']:.1%} ({low:.1%} to {high:.1%}), {row['seconds_median']:.2f} s"
        if "difference" in row:
            apart = row["difference"]
            ends = " to ".join(f"{100 * end:+.1f}" for end in apart["over_draws_95"] or [])
            line += f"; {100 * apart['mean']:+.1f} points ({ends}), {row['times_as_fast']['median']:.1f} times as fast"
        lines.append(line)
    return "\n".join(lines) + "\n"


class SetFit:
    """Client of the SetFit process, which runs in a separate Python and exchanges JSON lines.

    Args:
        python: Python of SetFit's environment.
        encoder: Encoder folder in the format of sentence-transformers.
        scratch: Writable folder.
    """

    def __init__(self, python: Path, encoder: Path, scratch: Path) -> None:
        side = Path(__file__).with_name("setfit_side.py")
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        environment.pop("PYTHONPATH", None)
        # Remove the variable that feathertune sets for itself.
        environment.pop("ONEDNN_PRIMITIVE_CACHE_CAPACITY", None)
        self._process = subprocess.Popen(
            [str(python), str(side), str(encoder), str(scratch / "setfit")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.versions: dict[str, str] = self._answer()

    def __enter__(self) -> SetFit:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def train(self, draw: Any) -> dict[str, Any]:
        """Train on a draw and predict the test rows."""
        assert self._process.stdin is not None
        told = {"texts": draw.texts, "labels": draw.labels.tolist(), "test": draw.test_texts, "seed": draw.seed}
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # other lines are SetFit's own output
                found: dict[str, Any] = json.loads(line)
                return found
        raise SystemExit("The SetFit process has ended; see its output above.")


if __name__ == "__main__":
    main()
