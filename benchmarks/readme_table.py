"""Puts the table of the standing study into the README, from its JSON. Run by ``make docs``."""

from __future__ import annotations

import re
from pathlib import Path

from feathertune.records import StudyRecord
from feathertune.report import units

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
STUDY = ROOT / "benchmarks" / "results" / "rotten-tomatoes-minilm.json"
_PLACE = re.compile(r"(<!-- results: .*? -->\n).*?(<!-- /results -->)", re.DOTALL)


def with_table(readme: str) -> str:
    """The README with the table as the JSON has it."""
    return _PLACE.sub(lambda found: found[1] + table() + found[2], readme)


def table() -> str:
    """The standing study in a few lines."""
    study = StudyRecord.model_validate_json(STUDY.read_text(encoding="utf-8"))
    data, hardware = study.data, study.hardware
    before = "" if any("engine" in run.hyperparameters for run in study.runs) else ", before the engine of today"
    lines = [
        f"For example, {data.source} ({data.n_train:,} sentences to train on, {data.n_test:,} to test on) and "
        f"{study.base.id} on {hardware['cores']} cores ({hardware['processor']}, {hardware['dtype']}{before}), "
        f"accuracy with its 95 % interval, mean over the seeds ([the record]({STUDY.relative_to(ROOT).as_posix()})):",
        "",
        "| method | seeds | accuracy | against full | trained | ships | time a run | memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(study.summary, key=lambda row: -row.accuracy_mean):
        cells = (
            row.method,
            str(row.n_seeds),
            f"{units.percent(row.accuracy_mean)} ({units.interval(row.accuracy_low, row.accuracy_high)})",
            units.points(row.delta_vs_full),
            units.count(row.trainable_parameters),
            units.size(row.adapter_bytes),
            units.seconds(row.seconds_mean),
            units.size(row.memory_mean_bytes),
        )
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", f"The verdict it prints: *{study.verdict.text}*", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
