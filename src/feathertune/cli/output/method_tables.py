"""Terminal output of `feathertune methods`: all methods, or one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from rich.text import Text

from feathertune.baselines import BASELINES
from feathertune.cli.output.tables import Column, render, table_of, width
from feathertune.methods import METHODS
from feathertune.methods.describe import FP32_BYTES, traits
from feathertune.report.format import units

if TYPE_CHECKING:
    from feathertune.methods.describe import Description

# A narrower terminal gets fewer columns, to leave room for the sentences.
_ROOMY = 110
_HINT = (
    "Every study includes the baselines. Run `feathertune methods show NAME` for a method's options and size; set "
    "options with --set method.NAME.OPTION=VALUE."
)


def methods_text() -> str:
    """Return the table of all methods and baselines."""
    roomy = width() >= _ROOMY
    more = (Column("size option", left=True, whole=True), Column("merges", left=True)) if roomy else ()
    last = (Column("source", left=True, whole=True),) if roomy else ()
    names = (Column("name", left=True, whole=True), Column("kind", left=True, whole=True))
    table = table_of(*names, *more, Column("what it does", left=True), *last)
    for method in METHODS:
        known = traits(method)
        size = (known.size_option or "fixed", "yes" if known.mergeable else "no") if roomy else ()
        source = (Text(_short(known.source)),) if roomy else ()
        table.add_row(known.name, known.kind, *size, Text(known.summary), *source)
    for baseline in BASELINES:
        source = (Text(_short(baseline.source)),) if roomy else ()
        table.add_row(baseline.name, baseline.kind, *("" for _ in more), Text(baseline.summary), *source)
    return render(table, "", _HINT)


def _short(source: str) -> str:
    """Return the last part of a source, enough to find it; `--json` and `methods show` print the whole."""
    return source.rpartition(", ")[2]


def description_text(known: SimpleNamespace, on: Description, notes: Sequence[str]) -> str:
    """Describe one method on one base model."""
    options = table_of(*(Column(head, left=True) for head in ("option", "default", "used")))
    for name, value in on.options.items():
        options.add_row(name, _say(known.options.get(name, "scaled")), _say(value))
    modules = table_of(Column("adapted modules", left=True, whole=True), "count", Column("shape", whole=True))
    for adapted in on.modules:
        modules.add_row(Text(adapted.pattern), f"{adapted.count:,}", str(adapted.shape).replace(",)", ")"))
    trains = table_of(Column("trained", left=True), "parameters", "share of base")
    trains.add_row("method", f"{on.adapter:,}", f"{100 * on.adapter / on.encoder_parameters:.3f}%")
    trains.add_row("head", f"{on.head:,}")
    trains.add_row("total", f"{on.total:,}")
    space = "; ".join(f"{name} {', '.join(map(_say, values))}" for name, values in known.search_space.items())
    return render(
        Text(f"{known.name}: {known.summary}"),
        *([Text(f"when      {known.when}")] if known.when else []),
        Text(f"source    {known.source}"),
        Text(f"traits    {'; '.join(_sentences(known))}"),
        *([Text(f"try       {space}")] if space else []),
        "",
        options,
        "",
        Text(f"On {on.encoder} ({on.encoder_parameters:,} parameters):"),
        modules if on.modules else "No weight of the base model is trained.",
        "",
        trains,
        f"Size: {units.size(FP32_BYTES * on.total)} in fp32.",
        *(Text(f"{known.name} {note}.") for note in notes),
    )


def _sentences(known: SimpleNamespace) -> list[str]:
    return [
        "merges into the weights" if known.mergeable else "does not merge into the weights",
        "starts from the base model's outputs" if known.zero_init else "starts from changed outputs",
        *(["adds trained inputs to the text"] if known.changes_input else []),
        "supports top_layers" if known.last_layers else "does not support top_layers",
        f"size option {known.size_option}" if known.size_option else "fixed size",
    ]


def _say(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return value if isinstance(value, str) else json.dumps(value)
