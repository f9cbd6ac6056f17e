"""Write the tables of results into ``README.md`` and ``docs/cost.md``, from the records. Run by ``make docs``."""

from __future__ import annotations

from pathlib import Path

from make_figures import ACCURACY, RESULTS, ROOT, SENTENCES, STANDING, filled, read_json, read_study, with_interval

from feathertune.report.format import units
from feathertune.tasks.formats import SHARE

README = ROOT / "README.md"
COST = ROOT / "docs" / "cost.md"
ESTIMATED = {name: RESULTS / f"cost-{name}.json" for name in ("imdb", "rotten-tomatoes")}
# Rows of the README's table; the record has all.
SHOWN = ("shira:density=0.2", "full", "tfidf", "lora", "lora:top_layers=3", "probe")
RUNS = {
    "whole: foundation-s0": "foundation",
    "whole: probe-s0": "probe",
    "whole: lora-s0": "lora",
    "whole: full-s0": "full",
    "top: lora-s0": "lora, top 3 layers",
}
MAKER = "docs/make_readme.py"


def with_table(readme: str) -> str:
    """Return the README with the results of the records."""
    return filled(readme, MAKER, {"results": results})


def with_costs(page: str) -> str:
    """Return the page on cost estimates with its table."""
    return filled(page, MAKER, {"costs": costs})


def results() -> str:
    """Return a table of the standing study, and the scores of the same methods on short texts."""
    study = read_study(STANDING)
    data, hardware = study.data, study.hardware
    seeds = max(row.n_seeds for row in study.summary if row.kind != "baseline")
    lines = [
        f"{data.source}, {data.n_train:,} training and {data.n_test:,} test rows, {data.max_length} tokens per text, "
        f"{study.base_ids()}, {seeds} seeds per trained method, {hardware['cores']} cores ({hardware['processor']}, "
        f"{hardware['dtype']}) ([record]({_link(STANDING)})):",
        "",
        "| method | accuracy, 95% CI | gain over full | trained parameters | shipped | time per run | peak memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in sorted((row for row in study.summary if row.method in SHOWN), key=lambda row: -row.score_mean):
        cells = (
            f"`{row.method}`",
            with_interval(row),
            SHARE.difference(row.delta_vs_full),
            units.count(row.trainable_parameters),
            units.size(row.adapter_bytes),
            units.seconds(row.seconds_mean),
            units.size(row.memory_mean_bytes),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", _on_sentences()])


def costs() -> str:
    """Return estimated and actual costs, from the records of `benchmarks/bench_cost.py`."""
    lines = [
        "| study | run | estimated time | actual | error | estimated memory | actual | error |",
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
    public = read_json(ACCURACY)
    gain = public["mean_differences"]["lora+tfidf - full"]
    mean, low, high = (SHARE.difference(gain[key] / 100) for key in ("mean", "low", "high"))
    return (
        "On these reviews, a linear model on words is about as accurate as full fine-tuning. On short texts it is not: "
        f"on {study.data.source} ({study.data.n_train:,} training sentences) `tfidf` reaches "
        f"{with_interval(rows['tfidf'])}, `lora` {with_interval(rows['lora'])} and `full` "
        f"{with_interval(rows['full'])} ([record]({_link(SENTENCES)})). On {len(public['data'])} public data sets, "
        f"`lora+tfidf` gains {mean} points over `full` on average, 95% CI [{low}, {high}] "
        "([light methods](docs/light-methods.md)).\n"
        "![Accuracy against the seconds of a whole process, by data set](docs/figures/time-to-accuracy-wide.svg)\n"
    )


def _link(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


if __name__ == "__main__":
    for path, made in ((README, with_table), (COST, with_costs)):
        path.write_text(made(path.read_text(encoding="utf-8")), encoding="utf-8")
