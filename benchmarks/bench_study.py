"""Run the studies behind the README and the defaults, with three seeds: first the cost estimate, then the runs.

``make bench`` runs the study on all training rows of rotten-tomatoes, about 20 minutes on two cores;
``python benchmarks/bench_study.py imdb`` runs the one on 5,000 long reviews, 1 to 2.5 hours. Options after ``--`` are
passed to `feathertune compare` (``-- --runner ray``), and an interrupted study resumes. Writes the study's record to
``benchmarks/results/<study>-minilm.json``, and prints the differences between methods.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from feathertune.records import STUDY_FILE, load_study
from feathertune.records.cost_estimate import COST_FILE
from feathertune.statistics.inference import paired_difference
from feathertune.statistics.measures import ACCURACY, Answers
from feathertune.study.running.run_files import SavedPredictions, read_predictions

RESULTS = Path(__file__).with_name("results")
_IMDB = "--max-length 256 --train-size 5000 --validation-size 500 --test-size 2500 --epochs 2"
STUDIES = {
    "rotten-tomatoes": ("sample:rotten-tomatoes", "--max-length", "128"),
    "imdb": (
        "sample:imdb",
        *_IMDB.split(),
        "--methods",
        "lora,lora:top_layers=3,ia3,shira:density=0.2,ln-tuning,full",
    ),
}
COMMON = ("--base", "sample:minilm", "--seeds", "3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", choices=STUDIES, default="rotten-tomatoes")
    parser.add_argument("more", nargs="*", help="options for `feathertune compare`, after --")
    parser.add_argument("--folder", type=Path, help="study folder; default: runs/bench-<study>")
    arguments = parser.parse_args()
    folder = arguments.folder or Path("runs", f"bench-{arguments.study}")
    compare = [sys.executable, "-m", "feathertune", "compare", *STUDIES[arguments.study], *COMMON, *arguments.more]
    if not (folder / COST_FILE).exists():
        subprocess.run([*compare, "--out", str(folder), "--dry-run"], check=True)
    subprocess.run([*compare, "--out", str(folder)], check=True)
    RESULTS.mkdir(exist_ok=True)
    shutil.copyfile(folder / STUDY_FILE, RESULTS / f"{arguments.study}-minilm.json")
    answers = answers_of(folder)
    for one, other in (("full", "lora"), ("lora", "probe"), ("lora", "tfidf"), ("full", "probe"), ("full", "tfidf")):
        d = paired_difference(answers[one], answers[other])
        print(
            f"{one} minus {other}: {100 * d.mean:+.2f} points ({100 * d.low:+.2f} to {100 * d.high:+.2f}), p {d.p:.2g}"
        )


def answers_of(folder: Path) -> dict[str, Answers]:
    """Return each method's answers to the test rows."""
    found: dict[str, list[SavedPredictions]] = {}
    for run in load_study(folder).runs:
        assert run.predictions is not None, f"{run.id} failed"
        found.setdefault(run.method, []).append(read_predictions(folder / run.predictions))
    return {
        method: ACCURACY.answers(runs[0].labels, np.stack([run.predicted for run in runs]))
        for method, runs in found.items()
    }


if __name__ == "__main__":
    main()
