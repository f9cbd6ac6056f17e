"""Write the measurements of `bench_engine` to the README, as a short table, and to docs/speed.md, as a longer one.

Run by ``make docs``. Without measurements the README has no table, and the page is empty.
"""

from __future__ import annotations

import json
import re
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
# Columns of speedups: heading, baseline, and the training that is compared with it.
_PEFT_TUNED, _PEFT_NO_DROPOUT = ("trainer-lora-tuned", "lora"), ("trainer-lora-tuned-no-dropout", "lora")
_TRAINER_FULL = ("trainer-full-tuned", "full")
_RATIOS = (
    ("`lora` vs. PEFT LoRA, tutorial", "trainer-lora-tutorial", "lora"),
    ("`lora` vs. PEFT LoRA, tuned", *_PEFT_TUNED),
    ("`lora` vs. PEFT LoRA, tuned, no dropout", *_PEFT_NO_DROPOUT),
    ("`lora` vs. `Trainer` full, tuned", "trainer-full-tuned", "lora"),
    ("`full` vs. `Trainer` full, tuned", *_TRAINER_FULL),
    ("`lora`, top half, vs. `Trainer` full, tuned", "trainer-full-tuned", "lora-top-half-cached"),
)
# The README has one machine and these cases.
_README_MACHINE = "epyc"
_README_CASES = (
    *("minilm-256", "bert-base-27", "bert-base-256"),
    *("modernbert-base-256", "deberta-v3-base-256", "smollm2-256"),
)
_README_RATIOS = (
    ("LoRA", *_PEFT_TUNED),
    ("LoRA, no dropout", *_PEFT_NO_DROPOUT),
    ("full fine-tuning", *_TRAINER_FULL),
)
_README_MEMORY = ("trainer-lora-tuned", "lora")
_BEGIN, _END = "<!-- engine: made by benchmarks/engine_table.py -->\n", "<!-- /engine -->\n"
_AFTER = "<!-- /results -->\n"
_PLACE = re.compile(rf"\n?{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
_README_INTRODUCTION = """\
## Training speed

Speedup over transformers' `Trainer` (full fine-tuning) and `Trainer` with PEFT (LoRA) on {machine}. All use
bf16, batches of 16 grouped by length, and a fused optimizer. feathertune turns off dropout in a frozen encoder
([why](docs/engine.md#dropout-of-a-frozen-encoder)); the column "LoRA, no dropout" turns it off in PEFT as well. A dash
means not measured. [docs/speed.md](docs/speed.md) has all machines, recipes, times and memory.
"""
_PAGE_INTRODUCTION = """\
# Training speed

Speed of feathertune, transformers' `Trainer`, and `Trainer` with PEFT. They train in turn on the same rows, with
batches of 16. To repeat all measurements, or one of them:

```sh
make bench-engine
python benchmarks/bench_engine.py --cases minilm-27 --contestants trainer-lora-tuned,lora
```

`make docs` writes this page from the records in `benchmarks/results`.
"""
_PAGE_END = """\
## How to read it

* **Tutorial** is fp32 with random batches. **Tuned** is bf16, batches grouped by length, and the fused optimizer.
* `lora` adapts query and value in all layers, as tutorials do. **Top half** adapts the last half of the layers, over
  cached hidden states of the others.
* Only training is timed, after a warm-up. A speedup is the baseline's time per epoch divided by feathertune's.
* feathertune turns off dropout in a frozen encoder ([why](engine.md#dropout-of-a-frozen-encoder)). The column with no
  dropout compares the same recipe, and so does `full`.
* BERT-base, ModernBERT-base and DeBERTa-v3-base have random weights here, which does not affect the speed.
* **Share of peak** is the share of the machine's measured peak of matrix products that training uses. For MiniLM and
  BERT it also counts padding that was skipped.

Each row links to its record, which also holds times, peak memory and the range over rounds. The
[benchmark log](../benchmarks/LOG.md) has the full tables, what limits a step, and the goals that were missed.
"""


@dataclass(frozen=True)
class Measured:
    """Result of one case on one machine; `file` is relative to the results."""

    file: str
    result: Mapping[str, Any]

    @property
    def machine(self) -> str:
        """Return the cores and the processor."""
        hardware = self.result["hardware"]
        return f"{hardware['cores']} cores ({hardware['processor']})"

    def times(self, baseline: str, name: str, *, span: bool = True) -> str:
        """Return the speedup over a baseline: median and range over the rounds."""
        if name == baseline:
            return "1"
        found = ratios(self.result["rounds"], [(baseline, name)])
        if not found:
            return units.DASH
        (one,) = found
        return f"{one['ratio']:.2f} ({one['low']:.2f}–{one['high']:.2f})" if span else f"{one['ratio']:.1f}"

    def row(self, name: str) -> Mapping[str, Any]:
        """Return a contestant's row of the table; empty if it was not measured."""
        return next((row for row in self.result["table"] if row["name"] == name), {})


def measured(results: Path = RESULTS) -> list[Measured]:
    """Return all results, by machine."""
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
    """Return the README with the short table after the standing study, or without it if nothing was measured."""
    without = _PLACE.sub("", readme)
    files = [f"{_README_MACHINE}/engine-{case}.json" for case in _README_CASES]
    found = [one for one in measured(results) if one.file in files]
    return without.replace(_AFTER, f"{_AFTER}\n{_BEGIN}{_short_table(found)}{_END}") if found else without


def page(results: Path = RESULTS) -> str:
    """Return the page: all speedups in one table; empty without measurements."""
    found = measured(results)
    return "\n".join([_PAGE_INTRODUCTION, _overview(found), _PAGE_END]) if found else ""


def _short_table(found: list[Measured]) -> str:
    heads = ["base model and texts", *(head for head, _, _ in _README_RATIOS), "peak memory, LoRA"]
    lines = [_README_INTRODUCTION.format(machine=found[0].machine), f"| {' | '.join(heads)} |"]
    lines.append("|---" * (len(_README_RATIOS) + 2) + "|")
    for one in found:
        theirs, ours = (one.row(name).get("peak_memory_bytes") for name in _README_MEMORY)
        cells = (
            one.result["title"],
            *(_times_as_fast(one, baseline, name) for _, baseline, name in _README_RATIOS),
            units.DASH if theirs is None or ours is None else f"{units.size(ours)} (PEFT {units.size(theirs)})",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _times_as_fast(one: Measured, baseline: str, name: str) -> str:
    found = one.times(baseline, name, span=False)
    return found if found == units.DASH else f"{found}x"


def _overview(found: list[Measured]) -> str:
    heads = ["base model, texts and machine", "share of peak, `lora`", *(head for head, _, _ in _RATIOS)]
    lines = ["## Speedups", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for one in found:
        share = one.row("lora").get("share_of_peak")
        cells = (
            f"[{one.result['title']}, {one.machine}](../benchmarks/results/{one.file})",
            units.DASH if share is None else f"{100 * share:.0f}%",
            *(_times_as_fast(one, baseline, name) for _, baseline, name in _RATIOS),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
