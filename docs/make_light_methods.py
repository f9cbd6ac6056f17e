"""Fill the tables of ``docs/light-methods.md`` from the committed records. Run by ``make docs``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from make_figures import ACCURACY_OF_BASES, END_TO_END, filled, read_json

PAGE = Path(__file__).with_name("light-methods.md")
ROWS = ("tfidf", "probe", "stack", "lora", "lora+tfidf", "full")
DIFFERENCES = ("lora", "lora+tfidf", "stack")
_MANY = 6  # data sets, for a mean over them
_COLUMNS = 4  # data sets of a table that fits its page


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
    settings = found["settings"]
    lines = [
        "Seconds from the start of a process to a saved, tested model, with test accuracy in brackets; "
        f"{settings['seeds']} seed{'s' * (settings['seeds'] != '1')}, {settings['epochs']} epochs, at most "
        f"{int(settings['train_size']):,} training rows, on {found['hardware']['cores']} cores "
        f"({found['hardware']['processor']}) ([record](../benchmarks/results/end-to-end-minilm.json)). `stack` saves "
        "no model. A dash means not measured.",
    ]
    for first in range(0, len(data), _COLUMNS):
        lines += ["", *_by_process({name: data[name] for name in list(data)[first : first + _COLUMNS]})]
    return "\n".join([*lines, "", *_speedups(found)]) + "\n"


def _speedups(found: Mapping[str, Any]) -> list[str]:
    fastest, against = found["time_to_full"]["by_data"], found["lora_against_peft"]
    heads = [f"`lora` against `{script}`" for script in against]
    lines = [
        "How many times as fast:",
        "",
        _row(["data set", *heads, "fastest as good against `trainer-full-tuned`"]),
        _row(["---"] * (2 + len(heads))),
    ]
    for name, best in fastest.items():
        row = f" (`{best['row']}`)" if best else ""
        lines.append(_row([name, *(_times(of_data.get(name)) for of_data in against.values()), _times(best) + row]))
    n_reached = sum(one is not None for one in fastest.values())
    return [
        *lines,
        "",
        "*Fastest as good* is the fastest light row within half a point of `trainer-full-tuned` on validation rows; "
        f"there is one on {n_reached} of {len(fastest)} data sets, with a geometric mean of "
        f"{found['time_to_full']['geometric_mean']:.1f}x.",
    ]


def _by_process(data: Mapping[str, Mapping[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(name for one in data.values() for name in one))
    lines = [_row(["process", *data]), _row(["---"] * (1 + len(data)))]
    for name in sorted(names, key=lambda name: not name.startswith("trainer")):
        cells = (
            f"{one[name]['seconds']:.0f} s ({one[name]['test']:.1f})" if name in one else "–" for one in data.values()
        )
        lines.append(_row([f"`{name}`", *cells]))
    return lines


def _times(found: Mapping[str, Any] | None) -> str:
    return f"{found['times_as_fast']:.1f}x" if found else "–"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
