"""Measure the speed and peak memory of ``feathertune inspect`` on a CSV of 2 million rows and 200 labels.

Run: ``python benchmarks/bench_inspect.py --out benchmarks/results/inspect-2m.json``, ten minutes on two cores.

Each row joins pieces of five real texts; its label, one of 200, depends on the first piece. ``short`` uses sentences of
sample:rotten-tomatoes (about 150 bytes per row: the hard case, because the cost per row dominates), ``long`` uses
reviews of sample:imdb. The data has planted faults: duplicate rows with the same or a different label, rows with one
word changed, and flipped labels. The result lists how many of them were found. The encoder is tiny and random, with the
tokenizer of sample:minilm. Time and memory cover the whole process, and are compared with the same command on the first
2,000 rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench_memory import measure, tiny_encoder

from feathertune.config import EngineConfig
from feathertune.data.sources.registry import load_source
from feathertune.quality.label_errors import find_label_errors
from feathertune.quality.words import words_of
from feathertune.runtime import choose_runtime, hardware, versions

N_LABELS = 200
FAULTS = ("flipped", "duplicate", "conflict", "near-duplicate", "nothing")
SHARES = (0.02, 0.001, 0.0005, 0.001, 1.0)
FLIPPED = (("sample:imdb", 2500), ("sample:imdb", 10_000), ("sample:rotten-tomatoes", 8530))
PIECE_CHARACTERS = {"short": 24, "long": 220}
SAMPLES = {"short": "sample:rotten-tomatoes", "long": "sample:imdb"}
_FEW_ROWS = 2_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--kinds", default="short,long")
    parser.add_argument(
        "--labels", action="store_true", help="measure only how many flipped labels are found, about a minute"
    )
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    results = [flipped(sample, n, draw) for sample, n in FLIPPED for draw in range(3)] if arguments.labels else []
    for kind in () if arguments.labels else arguments.kinds.split(","):
        with tempfile.TemporaryDirectory() as name:
            results.append(inspected(kind, arguments.rows, Path(name)))
    result = {
        "arguments": {key: str(value) for key, value in vars(arguments).items() if key != "out"},
        "hardware": hardware(choose_runtime(EngineConfig(dtype="fp32"))),
        "versions": versions(),
        "results": results,
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def flipped(sample: str, n_rows: int, draw: int) -> dict[str, Any]:
    """Flip 2% of the labels of real rows; return the share found in the 4% most likely mislabelled rows."""
    dataset, rng = load_source(sample), np.random.default_rng(draw)
    rows = rng.permutation(len(dataset.texts))[:n_rows].tolist()
    labels = np.array([dataset.labels[row] == "positive" for row in rows], np.int64)
    planted = rng.permutation(len(rows))[: round(0.02 * len(rows))]
    labels[planted] ^= 1
    errors = find_label_errors(words_of([dataset.texts[row] for row in rows]), labels)
    row = {
        "sample": sample,
        "rows": len(rows),
        "draw": draw,
        "listed": len(errors.rows),
        "share_of_flipped_listed": len(np.intersect1d(errors.rows, planted)) / len(planted),
        "accuracy": errors.accuracy,
        "flipped": len(planted),
    }
    print(json.dumps(row), flush=True)
    return row


def inspected(kind: str, n_rows: int, folder: Path) -> dict[str, Any]:
    """Write the rows, inspect the first few and all of them, and count the faults found."""
    base = tiny_encoder(folder / "base")
    few, all_rows = folder / "few.csv", folder / "all.csv"
    planted = write_rows(all_rows, kind, n_rows)
    with all_rows.open(encoding="utf-8", newline="") as file, few.open("w", encoding="utf-8", newline="") as start:
        start.writelines(line for line, _ in zip(file, range(_FEW_ROWS), strict=False))
    size = all_rows.stat().st_size
    options = ["--base", base, "--max-length", 128]
    load = os.getloadavg()[0]
    runs = [
        measure("2,000 rows", few.stat().st_size, "inspect", few, *options, "--out", folder / "out-few"),
        measure("all rows", size, "inspect", all_rows, *options, "--out", folder / "out"),
    ]
    record = json.loads((folder / "out" / "inspection.json").read_text(encoding="utf-8"))
    return {
        "kind": kind,
        "rows": n_rows,
        "csv_bytes": size,
        "load_before": load,  # load average of the last minute, partly caused by this benchmark
        "planted": planted,
        "found": {finding["kind"]: finding["n"] for finding in record["findings"]},
        "looked": record["looked"],
        "runs": runs,
        "bytes_a_row": round((runs[1]["peak_bytes"] - runs[0]["peak_bytes"]) / n_rows, 1),
    }


def write_rows(path: Path, kind: str, n_rows: int) -> dict[str, int]:
    """Write `n_rows` rows; return the number of planted faults by kind."""
    texts = load_source(SAMPLES[kind]).texts
    rng = np.random.default_rng(0)
    planted: Counter[str] = Counter()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        n = 0
        while n < n_rows:
            for first, text, label in made_rows(texts, PIECE_CHARACTERS[kind], rng):
                fault = FAULTS[int(np.searchsorted(np.cumsum(SHARES), rng.random()))]
                other = (label + 1 + first % (N_LABELS - 1)) % N_LABELS
                writer.writerow([n, text, f"intent {other if fault == 'flipped' else label:03d}"])
                n += 1
                if n < n_rows and fault in ("duplicate", "conflict", "near-duplicate"):
                    again = text.replace(" ", " zzz ", 1) if fault == "near-duplicate" else text
                    writer.writerow([n, again, f"intent {other if fault == 'conflict' else label:03d}"])
                    n += 1
                planted[fault] += 1
                if n >= n_rows:
                    break
    del planted["nothing"]
    return dict(planted)


def made_rows(texts: Sequence[str], size: int, rng: np.random.Generator) -> Iterator[tuple[int, str, int]]:
    """Yield rows: the index of the first piece's text, all five pieces, and the label."""
    for chosen, starts in zip(
        rng.integers(len(texts), size=(1000, 5)).tolist(), rng.random((1000, 5)).tolist(), strict=True
    ):
        pieces = [piece_of(texts[text], start, size) for text, start in zip(chosen, starts, strict=True)]
        yield chosen[0], " ".join(pieces), chosen[0] % N_LABELS


def piece_of(text: str, start: float, size: int) -> str:
    """Return about `size` characters of whole words, starting near a relative position."""
    at = text.find(" ", int(start * max(0, len(text) - size))) + 1
    return text[at : text.find(" ", at + size)]


if __name__ == "__main__":
    main()
