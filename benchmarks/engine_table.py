"""Puts what `bench_engine` measured into the README, from its JSON. Run by ``make docs``.

Where nothing was measured the README holds no table.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine_summary import ratios

from feathertune.report import units

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
# In the order of the tables; an ablation is no table of the README.
CASES = ("minilm-27", "minilm-256", "bert-base-27", "bert-base-256")
_BASELINES = ("trainer-full-tuned", "trainer-lora-tuned")
_BEGIN, _END = "<!-- engine: made by benchmarks/engine_table.py -->\n", "<!-- /engine -->\n"
_AFTER = "<!-- /results -->\n"
_INTRODUCTION = """\
## How fast it trains

Against transformers' `Trainer`, alone and with PEFT, in turn on the same rows, 16 a step. *Tutorial* is fp32 with
random batches, *tuned* is bf16, grouped by length, with the fused optimizer; `lora` adapts query and value in all
layers, as tutorials do. feathertune turns the dropout of a frozen encoder off
([why](docs/engine.md#dropout-of-a-frozen-encoder)): for the speed at the same recipe, compare `lora-dropout` with the
tuned Trainer, or `lora` with `no-dropout`.
"""
_PLACE = re.compile(rf"\n?{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)


def with_table(readme: str, results: Path = RESULTS) -> str:
    """The README with the tables as the JSON has them, right after the standing study; without where there is none."""
    without = _PLACE.sub("", readme)
    text = tables(results)
    return without.replace(_AFTER, f"{_AFTER}\n{_BEGIN}{text}{_END}") if text else without


def tables(results: Path) -> str:
    """One table for each case that was measured."""
    found = [path for case in CASES if (path := results / f"engine-{case}.json").exists()]
    parts = [_table(json.loads(path.read_text(encoding="utf-8")), path.name) for path in found]
    return "\n".join([_INTRODUCTION, *parts]) if parts else ""


def _table(result: Mapping[str, Any], file: str) -> str:
    hardware = result["hardware"]
    lines = [
        f"Training alone, {result['title']}, {hardware['cores']} cores ({hardware['processor']}), median of "
        f"{_rounds(result)} rounds ([the record](benchmarks/results/{file})); × is times as fast, with its range:",
        "",
        "| contestant | s/epoch | tokens/s | × Trainer full, tuned | × Trainer LoRA, tuned | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["table"]:
        cells = (
            row["name"],
            f"{row['seconds_per_epoch']:.2f}",
            units.whole(round(row["tokens_per_second"])),
            *(_times(result, baseline, row["name"]) for baseline in _BASELINES),
            units.size(row["peak_memory_bytes"]),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _rounds(result: Mapping[str, Any]) -> int:
    return round(statistics.median(len(found) for found in result["rounds"].values()))


def _times(result: Mapping[str, Any], baseline: str, name: str) -> str:
    if name == baseline:
        return "1"
    found = ratios(result["rounds"], [(baseline, name)])
    if not found:
        return units.DASH
    (one,) = found
    return f"{one['ratio']:.2f} ({one['low']:.2f}–{one['high']:.2f})"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
