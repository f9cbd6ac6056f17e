"""Write ``docs/figures/*.svg`` from the committed records of our own studies. Run by ``make docs``.

These are the report's own charts with its colours embedded, so they follow the reader's light or dark mode. The site
inlines them (`make_site`), so there they follow the site's own switch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from feathertune.records import StudyRecord, SummaryRow
from feathertune.report.drawing import charts, standalone, svg
from feathertune.report.format import units
from feathertune.report.rows import Method, method_rows
from feathertune.tasks import task_of_study
from feathertune.tasks.formats import SHARE

ROOT = Path(__file__).parents[1]
FOLDER = Path(__file__).with_name("figures")
RESULTS = ROOT / "benchmarks" / "results"
STANDING = RESULTS / "imdb-minilm.json"
SENTENCES = RESULTS / "rotten-tomatoes-minilm.json"
METHODS = RESULTS / "methods-defaults.json"
ENGINE = RESULTS / "engine-minilm-256.json"
ACCURACY = RESULTS / "accuracy-minilm.json"
END_TO_END = RESULTS / "end-to-end-minilm.json"
ACCURACY_OF_BASES = {"minilm": ACCURACY, "smollm2": RESULTS / "accuracy-smollm2.json"}
TWO_BASES = RESULTS / "rotten-tomatoes-two-bases.json"
# Methods of the seeds figure, from all parameters to few.
SHOWN_SEEDS = ("full", "lora", "ia3", "bitfit", "head")
# Bars of the speed figure, from PEFT's tutorial to the cached prefix.
SHOWN_SPEEDS = {
    "trainer-lora-tutorial": "Trainer and PEFT, tutorial",
    "trainer-lora-tuned": "Trainer and PEFT, tuned",
    "lora": "feathertune, all layers",
    "lora-top-half-cached": "last half, rest cached",
    "lora-top-quarter-cached": "last quarter, rest cached",
}
# Names of the Trainer's scripts in a chart.
SHOWN_SCRIPTS = {
    "trainer-full-tuned": "Trainer, full",
    "trainer-lora-tuned": "Trainer, LoRA",
    "trainer-lora-same-recipe": "LoRA, our recipe",
    "trainer-lora-tutorial": "LoRA, tutorial",
}
# Rows of the figure with two base models.
SHOWN_ON_BASES = ("probe", "stack", "lora", "lora+tfidf", "full")
# Scale of standalone pictures.
_LARGER = 1.3
# Width of the interval charts: narrower than in the report, so that their text is readable on a phone.
_INTERVALS_PX = 480.0


def figures() -> dict[str, str]:
    """Return all figures: file name to content."""
    drawn = {
        "accuracy": accuracy(STANDING),
        "accuracy-sentences": accuracy(SENTENCES),
        "seeds": seeds(),
        "cost": cost(),
        "speed": speed(),
        "time-to-accuracy": time_to_accuracy(columns=2),
        "time-to-accuracy-wide": time_to_accuracy(columns=3),
        "two-bases": two_bases(),
    }
    return {f"{name}.svg": _standalone(str(chart)) for name, chart in drawn.items()}


def read_study(path: Path) -> StudyRecord:
    """Read a committed study."""
    return StudyRecord.model_validate_json(path.read_text(encoding="utf-8"))


def read_json(path: Path) -> dict[str, Any]:
    """Read a committed benchmark record."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def filled(page: str, maker: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """Return a page with new text between ``<!-- NAME: made by MAKER -->`` and ``<!-- /NAME -->``.

    Raises:
        KeyError: If the page has a part of this maker that is not in `parts`.
    """
    place = re.compile(rf"(<!-- ([\w-]+): made by {re.escape(maker)} -->\n).*?(<!-- /\2 -->)", re.DOTALL)
    return place.sub(lambda found: found[1] + parts[found[2]]() + found[3], page)


def methods_of(study: StudyRecord) -> tuple[Method, ...]:
    """Return the study's rows, the most accurate first."""
    return method_rows(task_of_study(study), study, [run for run in study.runs if run.status == "complete"])


def with_interval(row: SummaryRow) -> str:
    """Return a method's accuracy with its confidence interval: ``88.8% [87.2, 90.1]``."""
    low, high = (SHARE.score(end).removesuffix(SHARE.suffix) for end in (row.score_low, row.score_high))
    return f"{SHARE.score(row.score_mean)} [{low}, {high}]"


def accuracy(record: Path) -> str:
    """Draw each method of a study with its interval."""
    methods = methods_of(read_study(record))
    chance = next(m.row.score_mean for m in methods if m.row.method == "majority")
    shown = [m for m in methods if m.row.method != "majority"]
    return _intervals(shown, reference=("largest class", chance))


def seeds() -> str:
    """Draw the variation between seeds, on 500 training rows."""
    methods = {m.row.method: m for m in methods_of(read_study(METHODS))}
    return _intervals([methods[name] for name in SHOWN_SEEDS], reference=None)


def cost() -> str:
    """Draw accuracy against trained parameters, for all methods that train any."""
    methods = methods_of(read_study(METHODS))
    points = [
        charts.Tradeoff(m.row.method, m.style, float(m.row.trainable_parameters), m.row.score_mean)
        for m in methods
        if m.row.kind != "baseline"
    ]
    return charts.tradeoffs(points, svg.PARAMETERS)


def speed() -> str:
    """Draw training speed in tokens per second, as bars."""
    measured = {row["name"]: row for row in read_json(ENGINE)["table"]}
    return bars(
        [(label, measured[name]["tokens_per_second"]) for name, label in SHOWN_SPEEDS.items()], "tokens per second"
    )


def time_to_accuracy(*, columns: int) -> str:
    """Draw accuracy against the seconds of a whole process, one panel per data set; three columns for the README."""
    data = read_json(END_TO_END)["data"]
    names = list(dict.fromkeys(name for found in data.values() for name in found))
    ours = [name for name in names if not name.startswith("trainer") and name != "full"]
    looks = {name: svg.Style(f"k{place + 1}", svg.SHAPES[0]) for place, name in enumerate(ours)}
    rivals = [name for name in names if name.startswith("trainer")]
    looks |= {name: svg.Style("k0", svg.SHAPES[place], hollow=True) for place, name in enumerate(rivals)}
    looks["full"] = svg.Style("k7", "square")
    drawn = []
    for title, found in data.items():
        points = [
            charts.Tradeoff(SHOWN_SCRIPTS.get(name, name), looks[name], one["seconds"], one["test"] / 100)
            for name, one in found.items()
        ]
        drawn.append((title, charts.tradeoffs(points, svg.SECONDS)))
    return panels(drawn, {SHOWN_SCRIPTS.get(name, name): looks[name] for name in names}, columns=columns)


def two_bases() -> str:
    """Draw accuracy against a run's seconds for rows on two base models, one panel per data set."""
    looks = {
        f"{name}@{base}": svg.Style(f"k{place + 1}", svg.SHAPES[0], hollow=base == "minilm")
        for base in ACCURACY_OF_BASES
        for place, name in enumerate(SHOWN_ON_BASES)
    }
    drawn = []
    for title, rows in _on_two_bases().items():
        points = [charts.Tradeoff(row, looks[row], *rows[row]) for row in looks if row in rows]
        drawn.append((title, charts.tradeoffs(points, svg.SECONDS)))
    return panels(drawn, looks, columns=2)


def _on_two_bases() -> dict[str, dict[str, tuple[float, float]]]:
    """Return seconds and accuracy by data set and row."""
    records = {base: read_json(path) for base, path in ACCURACY_OF_BASES.items()}
    found = {
        f"{name}, {of_data['rows'][0]:,} rows": {
            f"{row}@{base}": (float(np.mean(record["data"][name]["seconds"][row])), score / 100)
            for base, record in records.items()
            for row, score in record["data"][name]["scores"].items()
        }
        for name, of_data in records["smollm2"]["data"].items()
    }
    study = read_study(TWO_BASES)
    found[f"{study.data.source.removeprefix('sample:')}, {study.data.n_train:,} rows"] = {
        row.method: (row.seconds_mean, row.score_mean) for row in study.summary
    }
    return found


def legend(looks: Mapping[str, svg.Style], width: float, height: float) -> str:
    """Draw the markers with their names."""
    parts = []
    for index, (name, look) in enumerate(looks.items()):
        y = 16.0 + 20 * index
        parts += [svg.marker(46, y, look, hover=name), svg.text(62, y + 4, name, class_="label")]
    return svg.drawing(width, height, f"Legend: {', '.join(looks)}", *parts)


def panels(drawn: Sequence[tuple[str, str]], looks: Mapping[str, svg.Style], *, columns: int) -> str:
    """Draw charts side by side, each under its title, and a legend after them."""
    width, height = standalone.size_of(drawn[0][1])
    head = 24.0
    parts = []
    shown = [*drawn, ("Legend", legend(looks, width, height))]
    for index, (title, chart) in enumerate(shown):
        row, column = divmod(index, columns)
        left, top = column * (width + 16), row * (height + head + 12)
        parts.append(svg.text(left + 46, top + 14, title, class_="name strong"))
        place = f'<svg x="{left:.0f}" y="{top + head:.0f}" width="{width:.0f}" height="{height:.0f}" '
        # Without its class, which gives a chart the width of the page.
        parts.append(Markup(str(chart).replace('class="chart" ', "", 1).replace("<svg ", place, 1)))
    rows = -(-len(shown) // columns)
    label = "Accuracy against seconds: " + ", ".join(title for title, _ in drawn)
    return svg.drawing(columns * (width + 16) - 16, rows * (height + head + 12), label, *parts, class_="wide")


def bars(rows: Sequence[tuple[str, float]], unit: str) -> str:
    """Draw amounts as bars from zero, one per line, with the name above."""
    left, right, step = 10.0, charts.SMALL_PX - 12, 40.0
    x = svg.Scale(0.0, max(value for _, value in rows), left, right - 64)
    parts = []
    for index, (name, value) in enumerate(rows):
        y = step * index + 14
        parts.append(svg.text(left, y, name, class_="name"))
        parts.append(svg.element("rect", x=left, y=y + 5, width=x(value) - left, height=12, rx=2, class_="part fixed"))
        parts.append(svg.text(x(value) + 6, y + 15, units.whole(round(value)), class_="tick"))
    label = f"{unit}: " + ", ".join(f"{name} {units.whole(round(value))}" for name, value in rows)
    return svg.drawing(charts.SMALL_PX, step * len(rows) + 4, label, *parts)


def chart_style(*, light: str, dark: str) -> str:
    """Return the report's CSS rules for charts, with its colours in selectors of your own.

    Args:
        light: CSS rule with ``{}`` for the light colours, such as ``:root {{ {} }}``.
        dark: The same for the dark colours.
    """
    return f"{standalone.chart_style(light=light, dark=dark)}\n.part.fixed {{ fill: var(--k1); }}"


def _intervals(methods: Sequence[Method], *, reference: tuple[str, float] | None) -> str:
    rows = [charts.Estimate(m.row.method, m.style, m.row, m.scores) for m in methods]
    return str(charts.intervals(rows, reference=reference, width=_INTERVALS_PX))


def _standalone(chart: str) -> str:
    style = chart_style(light=":root {{ {} }}", dark="@media (prefers-color-scheme: dark) {{ :root {{ {} }} }}")
    return standalone.standalone(chart, style, _LARGER)


def write(drawn: Mapping[str, str]) -> None:
    """Write all figures into their folder and delete outdated ones."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.svg"):
        if old.name not in drawn:
            old.unlink()
    for name, content in drawn.items():
        (FOLDER / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    write(figures())
