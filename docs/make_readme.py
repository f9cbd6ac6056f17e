"""Puts the tables of the standing study into ``README.md`` and ``docs/cost.md``. Run by ``make docs``."""

from __future__ import annotations

from pathlib import Path

from make_figures import RESULTS, ROOT, SENTENCES, STANDING, filled, read_json, read_study, with_interval

from feathertune.report.format import units
from feathertune.report.wording import verdict_text
from feathertune.tasks.formats import SHARE

README = ROOT / "README.md"
COST = ROOT / "docs" / "cost.md"
ESTIMATED = {name: RESULTS / f"cost-{name}.json" for name in ("imdb", "rotten-tomatoes")}
RUNS = {
    "whole: foundation-s0": "foundation",
    "whole: probe-s0": "probe",
    "whole: lora-s0": "lora",
    "whole: full-s0": "full",
    "top: lora-s0": "lora, top 3 layers",
}
MAKER = "docs/make_readme.py"


def with_table(readme: str) -> str:
    """The README with the results as the records have them."""
    return filled(readme, MAKER, {"results": results})


def with_costs(page: str) -> str:
    """Return the page on the cost estimate with its table."""
    return filled(page, MAKER, {"costs": costs})


def results() -> str:
    """The standing study in a few lines, and what became of the same methods on shorter texts."""
    study = read_study(STANDING)
    data, hardware = study.data, study.hardware
    lines = [
        f"For example, {data.source} ({data.n_train:,} reviews to train on, {data.n_test:,} to test on, cut at "
        f"{data.max_length} tokens) and {study.base_ids()}, on {hardware['cores']} cores ({hardware['processor']}, "
        f"{hardware['dtype']}), accuracy with its 95% interval, mean over the seeds "
        f"([the record]({_link(STANDING)})):",
        "",
        "| method | seeds | accuracy | against full | trained | ships | time a run | memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(study.summary, key=lambda row: -row.score_mean):
        cells = (
            row.method,
            str(row.n_seeds),
            with_interval(row),
            SHARE.difference(row.delta_vs_full),
            units.count(row.trainable_parameters),
            units.size(row.adapter_bytes),
            units.seconds(row.seconds_mean),
            units.size(row.memory_mean_bytes),
        )
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", f"The verdict it prints: *{verdict_text(study)}*", "", _on_sentences(), ""]
    return "\n".join(lines)


def costs() -> str:
    """Return estimated and actual costs, from the records of `benchmarks/bench_cost.py`."""
    lines = [
        "| study | run | estimated | actual | off | memory estimated | actual | off |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, record in ESTIMATED.items():
        for key, found in read_json(record)["summary"].items():
            if key not in RUNS:
                continue
            cells = (
                f"`sample:{name}`",
                RUNS[key],
                units.seconds(found["seconds_predicted"]),
                units.seconds(found["seconds"]),
                f"{SHARE.difference(found['seconds_off_worst'])}%",
                units.size(found["memory_predicted_bytes"]),
                units.size(found["memory_bytes"]),
                f"{SHARE.difference(found['memory_off_worst'])}%",
            )
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _on_sentences() -> str:
    study = read_study(SENTENCES)
    rows = {row.method: row for row in study.summary}
    return (
        f"On short texts it comes out otherwise: on {study.data.source} ({study.data.n_train:,} sentences) tf-idf has "
        f"{with_interval(rows['tfidf'])}, `lora` {with_interval(rows['lora'])}, `full` {with_interval(rows['full'])} "
        f"([the record]({_link(SENTENCES)})). Which of the two your data is like, nobody can say without the baselines."
    )


def _link(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


if __name__ == "__main__":
    for path, made in ((README, with_table), (COST, with_costs)):
        path.write_text(made(path.read_text(encoding="utf-8")), encoding="utf-8")
