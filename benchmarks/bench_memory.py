"""Measure peak memory of ``compare --dry-run`` and ``predict`` on a 1 GB CSV.

Run: ``python benchmarks/bench_memory.py --out benchmarks/results/memory-1gb.json``, half an hour on two cores.

The texts come from sample:imdb, numbered to avoid duplicates. The encoder is tiny and random, with the tokenizer of
sample:minilm, and predicts from 16 tokens: the benchmark measures the memory of reading, tokenising and writing, and a
real encoder would only be slower.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

from transformers import BertConfig, BertModel

from feathertune.config import EngineConfig
from feathertune.data.sources.registry import load_source
from feathertune.data.sources.samples import sample_encoder_path
from feathertune.runtime import choose_runtime, hardware, versions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = write_data(folder / "reviews.csv", arguments.megabytes * 1_000_000)
        base = tiny_encoder(folder / "base")
        inspected = ["--base", base, "--max-length", arguments.max_length, "--dry-run"]
        size = data.stat().st_size
        rows.append(measure("compare --dry-run", size, "compare", data, *inspected))
        quick = ["--train-size", 200, "--validation-size", 200, "--test-size", 200, "--epochs", 1]
        quick += ["--base", base, "--max-length", 16, "--out", folder / "b"]
        rows.append(measure("train on 200 of its rows", size, "train", data, *quick))
        output = folder / "predicted.jsonl"
        rows.append(measure("predict", size, "predict", folder / "b", "--input", data, "--output", output))
        with output.open(encoding="utf-8") as file:
            n_written = sum(1 for _ in file)
    result = {
        "arguments": {key: str(value) for key, value in vars(arguments).items() if key != "out"},
        "csv_bytes": size,
        "rows_predicted": n_written,
        "hardware": hardware(choose_runtime(EngineConfig(dtype="fp32"))),
        "versions": versions(),
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def tiny_encoder(folder: Path) -> Path:
    """Write an encoder with two layers of width 32 and a real vocabulary."""
    config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    BertModel(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(sample_encoder_path("minilm") / name, folder / name)
    return folder


def write_data(path: Path, n_bytes: int) -> Path:
    """Write a CSV of about `n_bytes` bytes."""
    reviews = load_source("sample:imdb")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for i in count():
            row = i % len(reviews.texts)
            writer.writerow([f"{i} {reviews.texts[row]}", reviews.labels[row]])
            if i % 1000 == 0 and file.tell() >= n_bytes:
                return path
    raise AssertionError("unreachable")


def measure(what: str, n_bytes: int, *command: object) -> dict[str, Any]:
    """Run a command as the only child of a separate process, and return the child's peak memory."""
    code = (
        "import resource, sys, subprocess; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_maxrss, used.ru_utime + used.ru_stime)"
    )
    start = time.perf_counter()
    words = [sys.executable, "-m", "feathertune", *map(str, command)]
    done = subprocess.run([sys.executable, "-c", code, *words], check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - start
    peak, processor_seconds = done.stdout.split()
    row = {
        "what": what,
        "peak_bytes": int(peak) * resource_unit(),
        "seconds": round(seconds, 1),
        "processor_seconds": round(float(processor_seconds), 1),
        "mb_per_s": round(n_bytes / 1e6 / seconds, 2),
    }
    print(json.dumps(row), flush=True)
    return row


def resource_unit() -> int:
    """Return the unit of ``ru_maxrss`` in bytes: 1024 on Linux, 1 on macOS."""
    return 1 if sys.platform == "darwin" else 1024


if __name__ == "__main__":
    main()
