"""The study that the README and the defaults are judged by: every training row of rotten-tomatoes, three seeds.

Run by ``make bench``, some 20 minutes on two cores. Writes ``benchmarks/results/rotten-tomatoes-minilm.json``, the
study record as it is, and says whether `lora` is within a point of `full` and both are clearly above the baselines.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from feathertune.records import STUDY_FILE, load_study
from feathertune.study.files import read_correct
from feathertune.study.stats import paired_difference

RESULTS = Path(__file__).with_name("results")
COMMAND = ("compare", "sample:rotten-tomatoes", "--base", "sample:minilm", "--max-length", "128", "--seeds", "3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-rotten-tomatoes"))
    folder = parser.parse_args().folder
    subprocess.run([sys.executable, "-m", "feathertune", *COMMAND, "--out", str(folder)], check=True)
    RESULTS.mkdir(exist_ok=True)
    shutil.copyfile(folder / STUDY_FILE, RESULTS / "rotten-tomatoes-minilm.json")
    correct = right_answers(folder)
    for one, other in (("full", "lora"), ("lora", "probe"), ("lora", "tfidf"), ("full", "probe"), ("full", "tfidf")):
        d = paired_difference(correct[one], correct[other])
        print(
            f"{one} minus {other}: {100 * d.mean:+.2f} points ({100 * d.low:+.2f} to {100 * d.high:+.2f}), p {d.p:.2g}"
        )


def right_answers(folder: Path) -> dict[str, np.ndarray]:
    """Which test rows each method answered right, ``(S, N)`` by method."""
    found: dict[str, list[np.ndarray]] = {}
    for run in load_study(folder).runs:
        assert run.predictions is not None, f"{run.id} failed"
        found.setdefault(run.method, []).append(read_correct(folder / run.predictions))
    return {method: np.stack(rows) for method, rows in found.items()}


if __name__ == "__main__":
    main()
