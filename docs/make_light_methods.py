"""Fill the tables of ``docs/light-methods.md`` from the committed records. Run by ``make docs``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from make_figures import ACCURACY, END_TO_END, filled, read_json

PAGE = Path(__file__).with_name("light-methods.md")
ROWS = ("tfidf", "probe", "stack", "lora", "lora+tfidf", "full")
DIFFERENCES = ("lora", "lora+tfidf", "stack")


def with_tables(page: str) -> str:
    """Return the page with current tables."""
    return filled(page, "docs/make_light_methods.py", {"accuracy": accuracy, "time": time})


def accuracy() -> str:
    """Return accuracy by data set and row, and the mean differences to full fine-tuning."""
    found = read_json(ACCURACY)
    settings, data = found["settings"], found["data"]
    lines = [
        f"Accuracy in %, sample:minilm, {settings['seeds']} seeds of each trained row, at most "
        f"{settings['train_size']:,} training rows and {settings['max_length']} tokens per text, "
        f"{settings['epochs']} epochs "
        "([record](../benchmarks/results/accuracy-minilm.json)):",
        "",
        _row(["data set", "test rows", *(f"`{name}`" for name in ROWS)]),
        _row(["---"] * (2 + len(ROWS))),
    ]
    for name, one in data.items():
        *_, n_test = one["rows"]
        scores = (f"{one['scores'][row]:.1f}" for row in ROWS)
        lines.append(_row([name, f"{n_test:,}", *scores]))
    lines += ["", "Mean over the data sets:", "", _row(["difference", "points", "95% CI"]), _row(["---"] * 3)]
    for name in DIFFERENCES:
        one = found["mean_differences"][f"{name} - full"]
        lines.append(
            _row([f"`{name}` minus `full`", _signed(one["mean"]), f"[{_signed(one['low'])}, {_signed(one['high'])}]"])
        )
    return "\n".join(lines) + "\n"


def time() -> str:
    """Return seconds and accuracy of whole processes, by data set."""
    found = read_json(END_TO_END)
    data: Mapping[str, Mapping[str, Any]] = found["data"]
    settings, reached = found["settings"], found["time_to_full"]
    names = list(dict.fromkeys(name for one in data.values() for name in one))
    lines = [
        "Seconds from the start of a process to a saved, tested model, with test accuracy in brackets; "
        f"{settings['seeds']} seed{'s' * (settings['seeds'] != '1')}, {settings['epochs']} epochs, on "
        f"{found['hardware']['cores']} cores ({found['hardware']['processor']}) "
        "([record](../benchmarks/results/end-to-end-minilm.json)). `stack` saves no model.",
        "",
        _row(["process", *data]),
        _row(["---"] * (1 + len(data))),
    ]
    for name in names:
        cells = (
            f"{one[name]['seconds']:.0f} s ({one[name]['test']:.1f})" if name in one else "–" for one in data.values()
        )
        lines.append(_row([f"`{name}`", *cells]))
    fastest = ", ".join(
        f"{name}: `{one['row']}` {one['times_as_fast']:.1f}x" if one else f"{name}: none"
        for name, one in reached["by_data"].items()
    )
    lines += [
        "",
        "The fastest light row within half a point of the tuned `Trainer`'s full fine-tuning on validation rows, and "
        f"its speedup over that: {fastest}. Geometric mean: {reached['geometric_mean']:.1f}x.",
    ]
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
