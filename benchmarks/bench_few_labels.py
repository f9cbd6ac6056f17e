"""Few labels: feathertune's methods beside SetFit, on the same encoder, the same draws and the same test rows.

``python -m venv setfit && setfit/bin/pip install setfit`` makes the other side's environment; then
``python benchmarks/bench_few_labels.py --setfit-python setfit/bin/python``; smaller: ``--repeats 2 --shots 8``.

For each number of rows a class and each of ten draws from the training rows of rotten-tomatoes, SetFit and each method
are trained in turn on the draw and asked for the same test rows. The draws are those of ``feathertune compare --shots K
--seeds 10``. SetFit is the real package with the settings that it has by itself (one epoch over all pairs, batch 16,
rate 2e-5, logistic regression on the embeddings); feathertune's methods have theirs, and nothing else is chosen.

Both sides are processes that stay, so that imports are paid before; each trains once, unmeasured, before its first
draw (SetFit on four rows of each class). `seconds` is the wall clock from texts in memory and weights on the disk to a
model that can answer: loading the encoder, tokenising, training. Answering the test rows is not in it.
`loading_seconds` is the part of it that loads the encoder; of the probe that is not told apart. On 64 rows a class
SetFit makes some 500 steps, which take minutes on two cores: so every training is kept in ``runs/bench-few-labels``
when it is done, with its date, and the same command goes on; a contestant whose file there is deleted is trained anew.
Writes ``results/few-labels-<rows a class>.json`` for each number of rows when it is done.
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
    parser.add_argument("--setfit-python", type=Path, required=True, help="Python of an environment that holds setfit")
    parser.add_argument("--shots", default="8,64")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--test-rows", type=int, default=1000)
    parser.add_argument("--methods", default="probe,full:read=mean")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-few-labels"), help="of what is done already")
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
                # Where the other Python lies is this machine's.
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
    """Some rows of each class, enough to load all that a training needs."""
    rows = np.concatenate([np.flatnonzero(draw.labels == label)[:_WARM_ROWS] for label in np.unique(draw.labels)])
    return replace(draw, texts=[draw.texts[row] for row in rows], labels=draw.labels[rows])


class Kept:
    """Trainings that are done, one file of JSON lines a contestant, one line a draw in the order of draws.

    Args:
        folder: Of the files; made where it is missing.
        key: What tells trainings apart beside the contestant, as a part of a file name.
        names: The contestants.
    """

    def __init__(self, folder: Path, key: str, names: Iterable[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._paths = {name: folder / f"{key}-{name.replace(':', '-').replace('=', '-')}.jsonl" for name in names}

    def runs(self, name: str) -> list[dict[str, Any]]:
        """Of a contestant."""
        path = self._paths[name]
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []

    def add(self, name: str, run: Mapping[str, Any]) -> None:
        """The next draw's."""
        with self._paths[name].open("a", encoding="utf-8") as file:
            file.write(json.dumps(run) + "\n")


def in_turn(contestants: Mapping[str, Any], study: Any, repeats: int, kept: Kept) -> dict[str, list[dict[str, Any]]]:
    """Train each on each draw that is not kept yet; before its first a draw of its own, which counts for nothing."""
    runs: dict[str, list[dict[str, Any]]] = {name: kept.runs(name)[:repeats] for name in contestants}
    warm: set[str] = set()
    for seed in range(repeats):
        draw = study.draw(seed)
        for name, train in contestants.items():
            if seed >= len(runs[name]):
                if name not in warm:
                    train(few_of(study.draw(repeats)))
                    warm.add(name)
                    print(f"{study.shots} rows a class: {name} is warm", flush=True)
                run = {**train(draw), "date": datetime.now(UTC).isoformat(timespec="seconds")}
                kept.add(name, run)
                runs[name].append(run)
            run = runs[name][seed]
            run["correct"] = np.asarray(run.pop("answers")) == draw.test_labels
            run["accuracy"] = float(run["correct"].mean())
            said = f"{run['accuracy']:.1%} in {run['seconds']:.2f} s"
            print(f"{study.shots} rows a class, draw {seed}: {name}: {said}", flush=True)
    return runs


def table(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One row a contestant; of feathertune's, what it has more than SetFit.

    `difference` is paired by draw. Its first interval is Student's over the draws and says what other draws would do
    on these test rows; `over_rows` is that of a study, for other test rows as well
    (`feathertune.statistics.inference`), which takes the draws of both sides for independent and is too wide where
    they are the same.
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
    """Student's 95 % interval of a mean over draws; None of one draw."""
    if len(apart) < 2:
        return None
    half = float(stats.t.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / np.sqrt(len(apart)))
    return [float(apart.mean()) - half, float(apart.mean()) + half]


def without_answers(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """The runs as they are kept."""
    return {name: [{k: v for k, v in run.items() if k != "correct"} for run in some] for name, some in runs.items()}


def text(shots: int, rows: Sequence[Mapping[str, Any]]) -> str:
    """The table in words."""
    lines = [f"\n{shots} rows a class"]
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
    """The other side: a process with a Python of its own, which is told by lines of JSON.

    Args:
        python: Of the environment.
        encoder: Folder of the encoder, as sentence-transformers loads it.
        scratch: A folder that may be written.
    """

    def __init__(self, python: Path, encoder: Path, scratch: Path) -> None:
        side = Path(__file__).with_name("setfit_side.py")
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        environment.pop("PYTHONPATH", None)
        # What feathertune sets for itself is no part of the other side.
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
        """Train on a draw and answer the test rows."""
        assert self._process.stdin is not None
        told = {"texts": draw.texts, "labels": draw.labels.tolist(), "test": draw.test_texts, "seed": draw.seed}
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # others are its own words
                found: dict[str, Any] = json.loads(line)
                return found
        raise SystemExit("The process of SetFit has ended: see above.")


if __name__ == "__main__":
    main()
