"""Fill the tables of ``docs/light-methods.md`` from the committed records. Run by ``make docs``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from make_figures import ACCURACY_OF_BASES, END_TO_END, filled, read_json

PAGE = Path(__file__).with_name("light-methods.md")
ROWS = ("tfidf", "probe", "stack", "lora", "lora+tfidf", "full")
DIFFERENCES = ("lora", "lora+tfidf", "stack")
_MANY = 6  # data sets, for a mean over them


def with_tables(page: str) -> str:
    """Return the page with current tables."""
    parts = {"accuracy": partial(accuracy, "minilm"), "smollm2": partial(accuracy, "smollm2"), "time": time}
    return filled(page, "docs/make_light_methods.py", parts)


def accuracy(base: str) -> str:
    """Return accuracy on a base model by data set and row, and over many data sets the mean differences to `full`."""
    path = ACCURACY_OF_BASES[base]
    found = read_json(path)
    settings, data = found["settings"], found["data"]
    lines = [
        f"Accuracy in %, sample:{base}, {settings['seeds']} seeds of each trained row, at most "
        f"{settings['train_size']:,} training rows and {settings['max_length']} tokens per text, "
        f"{settings['epochs']} epochs ([record](../benchmarks/results/{path.name})):",
        "",
        _row(["data set", "test rows", *(f"`{name}`" for name in ROWS)]),
        _row(["---"] * (2 + len(ROWS))),
    ]
    for name, one in data.items():
        *_, n_test = one["rows"]
        scores = (f"{one['scores'][row]:.1f}" for row in ROWS)
        lines.append(_row([name, f"{n_test:,}", *scores]))
    if len(data) < _MANY:
        return "\n".join(lines) + "\n"
    lines += ["", "Mean over the data sets:", "", _row(["difference", "points", "95% CI"]), _row(["---"] * 3)]
    for name in DIFFERENCES:
        one = found["mean_differences"][f"{name} - full"]
        lines.append(
            _row([f"`{name}` minus `full`", _signed(one["mean"]), f"[{_signed(one['low'])}, {_signed(one['high'])}]"])
        )
    return "\n".join(lines) + "\n"


def time() -> str:
    """Return seconds and accuracy of whole processes by data set, and how many times as fast the light ones are."""
    found = read_json(END_TO_END)
    data: Mapping[str, Mapping[str, Any]] = found["data"]
    settings, reached, against = found["settings"], found["time_to_full"], found["lora_against_peft"]
    lines = [
        f"Seconds from the start of a process to a saved, tested model; {settings['seeds']} seed"
        f"{'s' * (settings['seeds'] != '1')}, {settings['epochs']} epochs, at most {int(settings['train_size']):,} "
        f"training rows, on {found['hardware']['cores']} cores ({found['hardware']['processor']}) "
        "([record](../benchmarks/results/end-to-end-minilm.json)). `stack` saves no model. A dash means not measured.",
        "",
        *_by_process(data, lambda one: f"{one['seconds']:.0f}"),
        "",
        "Test accuracy in %:",
        "",
        *_by_process(data, lambda one: f"{one['test']:.1f}"),
        "",
        _row(["times as fast as", *data]),
        _row(["---"] * (1 + len(data))),
    ]
    for script, of_data in against.items():
        lines.append(_row([f"`{script}`: `lora`", *(_times(of_data.get(name)) for name in data)]))
    fastest = reached["by_data"]
    lines.append(_row(["`trainer-full-tuned`: fastest as good", *(_times(fastest[name]) for name in data)]))
    rows = [one["row"] for one in fastest.values() if one]
    lines += [
        "",
        f"*Fastest as good* is the fastest light row within half a point of `trainer-full-tuned` on validation rows: "
        f"{_counted(rows)}; none on {len(fastest) - len(rows)} of {len(fastest)}. Geometric mean of the others: "
        f"{reached['geometric_mean']:.1f}x.",
    ]
    return "\n".join(lines) + "\n"


def _by_process(data: Mapping[str, Mapping[str, Any]], cell: Callable[[Any], str]) -> list[str]:
    names = list(dict.fromkeys(name for one in data.values() for name in one))
    lines = [_row(["process", *data]), _row(["---"] * (1 + len(data)))]
    for name in sorted(names, key=lambda name: not name.startswith("trainer")):
        lines.append(_row([f"`{name}`", *(cell(one[name]) if name in one else "–" for one in data.values())]))
    return lines


def _times(found: Mapping[str, Any] | None) -> str:
    return f"{found['times_as_fast']:.1f}x" if found else "–"


def _counted(rows: list[str]) -> str:
    return ", ".join(f"`{row}` on {n}" for row, n in Counter(rows).most_common())


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
