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

from feathertune.records import STUDY_FILE, load_study

RESULTS = Path(__file__).with_name("results")
COMMAND = ("compare", "sample:rotten-tomatoes", "--base", "sample:minilm", "--max-length", "128", "--seeds", "3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-rotten-tomatoes"))
    folder = parser.parse_args().folder
    subprocess.run([sys.executable, "-m", "feathertune", *COMMAND, "--out", str(folder)], check=True)
    RESULTS.mkdir(exist_ok=True)
    shutil.copyfile(folder / STUDY_FILE, RESULTS / "rotten-tomatoes-minilm.json")
    rows = {row.method: row for row in load_study(folder).summary}
    gap = 100 * (rows["full"].accuracy_mean - rows["lora"].accuracy_mean)
    print(f"full minus lora: {gap:+.2f} points (the goal is at most 1.0): {'reached' if gap <= 1.0 else 'missed'}")
    for method in ("lora", "full"):
        for baseline in ("probe", "tfidf"):
            clear = rows[method].accuracy_low > rows[baseline].accuracy_high
            print(f"{method} clearly above {baseline} (intervals apart): {'yes' if clear else 'no'}")


if __name__ == "__main__":
    main()
