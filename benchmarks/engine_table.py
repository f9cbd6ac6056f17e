"""Write the results of `bench_engine` into the README, as ratios, and docs/speed.md, in full. Run by ``make docs``.

Without results, the README has no table, and the page is empty.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine_summary import ratios

from feathertune.report.format import units

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "speed.md"
RESULTS = ROOT / "benchmarks" / "results"
# Cases in the order of the tables; ablations are not shown.
CASES = (
    *("minilm-27", "minilm-256", "bert-base-27", "bert-base-256"),
    *("modernbert-base-256", "deberta-v3-base-256", "smollm2-27", "smollm2-256"),
)
# Results folders, one per machine.
MACHINES = (".", "epyc")
_BASELINES = ("trainer-full-tuned", "trainer-lora-tuned")
# Columns of the README's table: title, baseline, and contestant.
_RATIOS = (
    ("`lora`: PEFT LoRA, tutorial", "trainer-lora-tutorial", "lora"),
    ("PEFT LoRA, tuned", "trainer-lora-tuned", "lora"),
    ("the same, no dropout", "trainer-lora-tuned-no-dropout", "lora"),
    ("Trainer full, tuned", "trainer-full-tuned", "lora"),
    ("`full`: Trainer full, tuned", "trainer-full-tuned", "full"),
    ("`lora`, top half: Trainer full, tuned", "trainer-full-tuned", "lora-top-half-cached"),
)
_BEGIN, _END = "<!-- engine: made by benchmarks/engine_table.py -->\n", "<!-- /engine -->\n"
_AFTER = "<!-- /results -->\n"
_PLACE = re.compile(rf"\n?{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
_RIVALS = """\
feathertune is compared with transformers' `Trainer`, alone and with PEFT, on the same rows with 16 texts per step.
*Tutorial* means fp32 and random batches. *Tuned* means bf16, batches grouped by length, and the fused optimizer. `lora`
adapts query and value in all layers, as in tutorials."""
_README_INTRODUCTION = f"""\
## How fast it trains

{_RIVALS}

Each number is feathertune's speedup. The first column is the share of this machine's measured matrix-product peak that
`lora` reaches; MiniLM's and BERT's shares also count skipped padding. See [docs/speed.md](docs/speed.md) for times and
memory.
"""
_PAGE_INTRODUCTION = f"""\
# How fast it trains

{_RIVALS}

The times cover training only, after a warm-up (`benchmarks/bench_engine.py`). feathertune turns off a frozen
encoder's dropout ([why](engine.md#dropout-of-a-frozen-encoder)). To compare the same recipe, use `lora-dropout` with
the tuned Trainer, or `lora` with `no-dropout`. MiniLM's and BERT's shares of the peak also count skipped padding. See
[benchmarks/LOG.md](../benchmarks/LOG.md) for what limits a step, and which goals were missed. `make docs` generates
this page.
"""


@dataclass(frozen=True)
class Measured:
    """One case on one machine; `file` is relative to the results."""

    file: str
    result: Mapping[str, Any]

    @property
    def machine(self) -> str:
        """Description of the machine."""
        hardware = self.result["hardware"]
        return f"{hardware['cores']} cores ({hardware['processor']})"

    def times(self, baseline: str, name: str, *, span: bool = True) -> str:
        """Return a contestant's speedup over a baseline, with the range over the rounds."""
        if name == baseline:
            return "1"
        found = ratios(self.result["rounds"], [(baseline, name)])
        if not found:
            return units.DASH
        (one,) = found
        return f"{one['ratio']:.2f} ({one['low']:.2f}–{one['high']:.2f})" if span else f"{one['ratio']:.1f}"


def measured(results: Path = RESULTS) -> list[Measured]:
    """Return all results, grouped by machine."""
    files = [
        f"engine-{case}.json" if folder == "." else f"{folder}/engine-{case}.json"
        for folder in MACHINES
        for case in CASES
    ]
    return [
        Measured(file, json.loads((results / file).read_text(encoding="utf-8")))
        for file in files
        if (results / file).exists()
    ]


def with_table(readme: str, results: Path = RESULTS) -> str:
    """Return the README with the measured ratios after the study's results, or without the section if none exist."""
    without = _PLACE.sub("", readme)
    found = measured(results)
    return without.replace(_AFTER, f"{_AFTER}\n{_BEGIN}{_overview(found)}{_END}") if found else without


def page(results: Path = RESULTS) -> str:
    """Return the page with one table per case and machine; empty without results."""
    found = measured(results)
    return "\n".join([_PAGE_INTRODUCTION, *map(_table, found)]) if found else ""


def _overview(found: list[Measured]) -> str:
    lines = [_README_INTRODUCTION]
    lines.append("| | share of peak | " + " | ".join(words for words, _, _ in _RATIOS) + " |")
    lines.append("|---" * (len(_RATIOS) + 2) + "|")
    for one in found:
        share = {row["name"]: row["share_of_peak"] for row in one.result["table"]}.get("lora")
        cells = (
            f"{one.result['title']}, {one.machine}",
            units.DASH if share is None else f"{100 * share:.0f}%",
            *(one.times(baseline, name, span=False) for _, baseline, name in _RATIOS),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _table(one: Measured) -> str:
    result = one.result
    lines = [
        f"## {result['title']}, {one.machine}",
        "",
        f"Median of {_rounds(result)} rounds ([record](../benchmarks/results/{one.file})). × is the speedup, with its "
        f"range. Measured peak: {result['peak_flop_per_s'] / 1e9:.0f} GFLOP/s.",
        "",
        "| contestant | s/epoch | tokens/s | × Trainer full, tuned | × Trainer LoRA, tuned | of peak | peak memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["table"]:
        cells = (
            row["name"],
            f"{row['seconds_per_epoch']:.2f}",
            units.whole(round(row["tokens_per_second"])),
            *(one.times(baseline, row["name"]) for baseline in _BASELINES),
            f"{100 * row['share_of_peak']:.0f}%",
            units.size(row["peak_memory_bytes"]),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _rounds(result: Mapping[str, Any]) -> int:
    return round(statistics.median(len(found) for found in result["rounds"].values()))


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
