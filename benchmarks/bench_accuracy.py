"""Accuracy and seconds of methods on many data sets, and mean differences to full fine-tuning.

Run: ``python benchmarks/bench_accuracy.py --data public-data --out benchmarks/results/accuracy-minilm.json``.

Each ``*.csv`` of the folder (`public_data.py` makes them) and both samples are a study of their own, with one protocol.
A study that ended is not run again. ``--develop`` leaves the test rows out: recipes are chosen there, on rows of the
training split alone. Averages are over data sets, with intervals by Student's t over their mean differences.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import feathertune
from feathertune.records import StudyRecord

SAMPLES = ("sample:rotten-tomatoes", "sample:imdb")
# Longer texts than sentences: more tokens are read.
LONG = {"imdb": 128, "bbc-news": 128, "newsgroups": 128, "dutch-books": 128, "slovene-comments": 128}
USUAL_LENGTH = 64
REFERENCE = "full"
CONFIDENCE = 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of CSV files")
    parser.add_argument("--only", default="", help="names with commas; by default all")
    parser.add_argument("--base", default="sample:minilm")
    parser.add_argument("--methods", default="majority,tfidf,probe,lora,lora+tfidf,full")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train-size", type=int, default=2_000)
    parser.add_argument("--test-size", type=int, default=1_500)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--max-length", type=int, help="tokens of a text, in place of each data set's own")
    parser.add_argument("--develop", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-accuracy"), help="of the studies")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    csv.field_size_limit(2**30)
    studies = {}
    for name, source in sources(args):
        if args.only and name not in args.only.split(","):
            continue
        studies[name] = study_of(name, source, args)
        record = summarised(studies, vars(args))
        args.out.write_text(json.dumps(record, indent=1, default=str) + "\n", encoding="utf-8")
        print(name, json.dumps(record["data"][name]["scores"]), flush=True)
    print(json.dumps(record["mean_differences"], indent=1))


def sources(args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Yield names and sources of data sets, with few enough rows for the study to draw from."""
    args.folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(args.data.glob("*.csv")):
        yield path.stem, str(_cut(path, args))
    for name in SAMPLES:
        yield name.partition(":")[2], name


def _cut(path: Path, args: argparse.Namespace) -> Path:
    """Write a study's rows: at most `--train-size` training rows, a fifth as many for validation, and test rows."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    rng = np.random.default_rng(0)
    rows = [rows[place] for place in rng.permutation(len(rows))]
    train = [row for row in rows if row["split"] == "train"]
    test = [row for row in rows if row["split"] == "test"]
    if args.develop:
        n = len(train) * 7 // 10
        train, test = train[:n], train[n:]
    n_validation = min(args.train_size, len(train)) // 5
    parts = {
        "validation": train[:n_validation],
        "train": train[n_validation:][: args.train_size],
        "test": test[: args.test_size],
    }
    place = args.folder / f"{path.stem}{'-develop' * args.develop}-{args.train_size}-{args.test_size}.csv"
    write_rows(place, {split: [(row["text"], row["label"]) for row in part] for split, part in parts.items()})
    return place


def write_rows(path: Path, parts: Mapping[str, Iterable[tuple[str, str]]]) -> None:
    """Write texts and labels by split as a CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label", "split"))
        writer.writerows((*row, split) for split, rows in parts.items() for row in rows)


def length_of(name: str, args: argparse.Namespace) -> int:
    """Return the number of tokens that are read of each text."""
    return args.max_length or LONG.get(name, USUAL_LENGTH)


def study_of(name: str, source: str, args: argparse.Namespace) -> StudyRecord:
    """Run a study, or read it if it ended."""
    data: dict[str, Any] = {"source": source, "max_length": length_of(name, args)}
    if not source.startswith("sample:"):
        data["split_column"] = "split"
    else:
        data |= {"train_size": args.train_size, "validation_size": args.train_size // 5, "test_size": args.test_size}
    config = feathertune.load_config(
        options={
            "base": args.base,
            "data": data,
            "study": {"methods": args.methods.split(","), "seeds": args.seeds, "metric": "accuracy"},
            "train": {"epochs": args.epochs},
        }
    )
    key = f"{name}{'-develop' * args.develop}-{args.base.rpartition(':')[2].rpartition('/')[2]}-{args.train_size}"
    return feathertune.compare(config, args.folder / key).record


def summarised(studies: dict[str, StudyRecord], settings: dict[str, Any]) -> dict[str, Any]:
    """Return scores and seconds of each data set, and mean differences to the reference and to the word model."""
    data = {}
    for name, study in studies.items():
        scores: dict[str, list[float]] = {}
        seconds: dict[str, list[float]] = {}
        for run in study.runs:
            if run.status == "complete" and run.test is not None:
                scores.setdefault(run.method, []).append(round(run.test.accuracy, 6))
                seconds.setdefault(run.method, []).append(round(run.seconds.total, 2))
        data[name] = {
            "rows": [study.data.n_train, study.data.n_validation, study.data.n_test],
            "scores": {method: round(100 * float(np.mean(found)), 2) for method, found in scores.items()},
            "seeds": scores,
            "seconds": seconds,
        }
    first = next(iter(studies.values()))
    methods = [method for method in next(iter(data.values()))["scores"] if method not in ("majority", "foundation")]
    differences = {
        f"{method} - {other}": mean_difference([d["scores"][method] - d["scores"][other] for d in data.values()])
        for other in (REFERENCE, "tfidf")
        for method in methods
        if method != other and other in methods
    }
    return {
        "settings": settings,
        "data": data,
        "mean_differences": differences,
        "hardware": first.hardware.model_dump() if hasattr(first.hardware, "model_dump") else first.hardware,
        "versions": first.versions,
    }


def mean_difference(points: Sequence[float]) -> dict[str, float]:
    """Return the mean over data sets, its two-sided interval, and the one-sided lower bound."""
    n, mean = len(points), float(np.mean(points))
    if n < 2:
        return {"mean": round(mean, 2)}
    error = float(np.std(points, ddof=1)) / n**0.5
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * error
    lower = mean - float(stats.t.ppf(CONFIDENCE, n - 1)) * error
    found = {"mean": mean, "low": mean - half, "high": mean + half, "one_sided_low": lower, "least": min(points)}
    return {name: round(value, 2) for name, value in found.items()}


if __name__ == "__main__":
    main()
