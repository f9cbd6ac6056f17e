"""How an inspection is printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from feathertune.cli.tables import render, table_of
from feathertune.report import units

if TYPE_CHECKING:
    from feathertune.config import Config
    from feathertune.data.inspect import Inspection

_SHOWN_CLASSES = 20


def inspection_text(found: Inspection, config: Config) -> str:
    """What is in the data."""
    n = sum(found.rows.values())
    splits = ", ".join(f"{name} {rows:,}" for name, rows in found.rows.items() if name != "all")
    classes = table_of("label", "rows", "share")
    for name, rows in list(found.classes.items())[:_SHOWN_CLASSES]:
        classes.add_row(Text(units.clip(name, 40)), f"{rows:,}", units.percent(rows / n))
    more = len(found.classes) - _SHOWN_CLASSES
    return render(
        Text(f"data      {found.source}: {n:,} rows{f' ({splits})' if splits else ''}, {len(found.classes):,} labels"),
        *_columns_lines(found),
        Text(f"repeated  {found.repeated:,} rows repeat a text; {found.contradicted:,} texts have several labels"),
        *(Text(f"note      {note}") for note in found.notes),
        "",
        classes,
        *([f"and {more:,} labels more"] if more > 0 else []),
        "",
        *_length_lines(found, config),
        "",
        *_suspicion_lines(found),
    )


def _columns_lines(found: Inspection) -> list[Text]:
    if found.columns is None:
        return []
    others = f"; not read: {', '.join(found.columns.others)}" if found.columns.others else ""
    texts = " and ".join(f"'{column}'" for column in found.columns.texts)
    return [Text(f"columns   text {texts}, label '{found.columns.label}'{others}")]


def _length_lines(found: Inspection, config: Config) -> list[RenderableType]:
    lengths = found.lengths
    shares = table_of("tokens a text", *lengths.quantiles, "longest", "mean")
    shares.add_row(
        "up to", *(f"{value:,}" for value in lengths.quantiles.values()), f"{lengths.longest:,}", f"{lengths.mean:.0f}"
    )
    cut = table_of("--max-length", *(f"{limit:,}" for limit in lengths.cut))
    cut.add_row("texts cut", *(units.percent(share) for share in lengths.cut.values()))
    of = "" if lengths.n == sum(found.rows.values()) else f", counted on {lengths.n:,} of the texts"
    return [f"under the tokenizer of {config.base.id}{of}:", shares, cut]


def _suspicion_lines(found: Inspection) -> list[Text]:
    lines = [Text(f"- {line}") for line in found.suspicious]
    if lines:
        lines.insert(0, Text("Look at this:"))
    else:
        lines.append(Text("Nothing looks wrong."))
    if found.refused is not None:
        lines.append(Text(f"A study would refuse this data: {found.refused}"))
    return lines
