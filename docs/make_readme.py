"""Puts the tables of the standing study into ``README.md`` and ``docs/price.md``. Run by ``make docs``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from make_figures import RESULTS, ROOT, SENTENCES, STANDING, filled, read_json, read_study, with_interval

from feathertune.report.format import units
from feathertune.report.wording import verdict_text
from feathertune.tasks.formats import SHARE

README = ROOT / "README.md"
PRICE = ROOT / "docs" / "price.md"
PRICED = RESULTS / "price-imdb.json"
MAKER = "docs/make_readme.py"


def with_table(readme: str) -> str:
    """The README with the results as the records have them."""
    return filled(readme, MAKER, {"results": results})


def with_prices(page: str) -> str:
    """The page on prices, likewise."""
    return filled(page, MAKER, {"prices": prices, "prices-of-reviews": prices_of_reviews})


def results() -> str:
    """The standing study in a few lines, and what became of the same methods on shorter texts."""
    study = read_study(STANDING)
    data, hardware = study.data, study.hardware
    lines = [
        f"For example, {data.source} ({data.n_train:,} reviews to train on, {data.n_test:,} to test on, cut at "
        f"{data.max_length} tokens) and {study.base.id}, on {hardware['cores']} cores ({hardware['processor']}, "
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


def prices() -> str:
    """What the dry run said of the standing study, and what came true."""
    found: dict[str, list[Costs]] = {}
    for run in read_study(STANDING).runs:
        said = run.predicted_seconds or 0.0, run.predicted_memory_bytes or 0
        found.setdefault(run.method, []).append(Costs(*said, run.seconds.total, run.peak_memory_bytes or 0))
    return _said_and_true(found)


def prices_of_reviews() -> str:
    """The same of the smaller study of `benchmarks/bench_price.py`."""
    found: dict[str, list[Costs]] = {}
    for row in read_json(PRICED)["rows"]:
        said = row["seconds_predicted"], row["memory_predicted_bytes"]
        method = row["run"].rpartition("-s")[0]
        found.setdefault(method, []).append(Costs(*said, row["seconds"], row["memory_bytes"]))
    return _said_and_true(found)


class Costs(NamedTuple):
    """Of one run."""

    said_s: float
    said_bytes: int
    seconds: float
    bytes: int


def _said_and_true(found: Mapping[str, Sequence[Costs]]) -> str:
    """Means of each method's runs, and the run that is furthest off."""
    lines = [
        "| method | said | took | off, furthest | memory said | was | off, furthest |",
        "|---|---|---|---|---|---|---|",
    ]
    for method, costs in found.items():
        said, memory_said, took, memory = map(list, zip(*costs, strict=True))
        if fmean(took) < 1.0:  # Nobody asks what a millisecond will cost.
            continue
        cells = (
            f"`{method}`",
            units.seconds(fmean(said)),
            units.seconds(fmean(took)),
            _furthest(said, took),
            units.size(fmean(memory_said)),
            units.size(fmean(memory)),
            _furthest(memory_said, memory),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _furthest(said: list[float] | list[int], found: list[float] | list[int]) -> str:
    """The largest relative error, such as ``+4.2%``."""
    return f"{SHARE.difference(max((s / f - 1 for s, f in zip(said, found, strict=True)), key=abs))}%"


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
    for path, made in ((README, with_table), (PRICE, with_prices)):
        path.write_text(made(path.read_text(encoding="utf-8")), encoding="utf-8")
