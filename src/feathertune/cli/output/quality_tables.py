"""Terminal output and output folder of an inspection."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from feathertune.cli.output.tables import Column, render, table_of
from feathertune.output_folder import FolderKind, claimed
from feathertune.records.inspection import FoundRow, Inspection
from feathertune.report.format import units
from feathertune.report.inspection import FINDINGS_FILE, INSPECTION_FILE, PAGE_FILE, draw_inspection
from feathertune.storage import new_folder

if TYPE_CHECKING:
    from feathertune.quality.fix import Fixed
    from feathertune.quality.inspection import Inspected

_SHOWN_CLASSES, _SHOWN_ROWS = 20, 4
_TEXT_CHARACTERS = 50
INSPECTION = FolderKind(INSPECTION_FILE, ("source", "findings", "lengths"), (PAGE_FILE, FINDINGS_FILE))


def write_folder(inspected: Inspected, out: Path, *, overwrite: bool) -> None:
    """Write the record, the page and the rows of all findings: all of them, or none."""
    with claimed(out, INSPECTION, overwrite=overwrite), new_folder(out) as folder:
        (folder / INSPECTION_FILE).write_text(inspected.record.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (folder / PAGE_FILE).write_bytes(draw_inspection(inspected.record))
        with (folder / FINDINGS_FILE).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["finding", *FoundRow.model_fields])
            for kind, row in inspected.rows():
                values = row.model_dump()
                # Half a surrogate pair cannot be written; a null byte cannot be read back.
                text = (row.text or "").encode("utf-8", "replace").decode().replace("\0", "\ufffd")
                writer.writerow([kind, *{**values, "text": text}.values()])


def fixed_lines(fixed: Fixed) -> list[Text]:
    """Return the lines about a cleaned copy."""
    done = [f"- {n:,} rows: {what}" for what, n in fixed.counts.most_common()] or ["- no changes were needed"]
    return [
        Text(f"{fixed.path}: {fixed.n_written:,} of {fixed.n_read:,} rows; the original is unchanged"),
        *map(Text, done),
        Text(f"List of changes: {fixed.changes}"),
    ]


def inspection_text(found: Inspection, out: Path | None) -> str:
    """Return the whole terminal output."""
    n = sum(found.rows.values())
    splits = ", ".join(f"{name} {rows:,}" for name, rows in found.rows.items() if name != "all")
    classes = table_of(Column("label", left=True), "rows", "share")
    for name, rows in list(found.classes.items())[:_SHOWN_CLASSES]:
        classes.add_row(Text(units.clip(name, 40)), f"{rows:,}", units.percent(rows / n))
    more = len(found.classes) - _SHOWN_CLASSES
    return render(
        Text(f"data      {found.source}: {n:,} rows{f' ({splits})' if splits else ''}, {len(found.classes):,} labels"),
        *_columns_lines(found),
        Text(f"repeated  {found.repeated:,} rows repeat a text; {found.contradicted:,} texts have conflicting labels"),
        *(Text(f"note      {note}") for note in found.notes),
        "",
        classes,
        *([f"{more:,} more labels"] if more > 0 else []),
        "",
        *_length_lines(found),
        "",
        *_suspicion_lines(found),
        *_finding_lines(found),
        *([] if out is None else [Text(f"\nPage: {out / PAGE_FILE}"), Text(f"All rows: {out / FINDINGS_FILE}")]),
    )


def _columns_lines(found: Inspection) -> list[Text]:
    if found.columns is None:
        return []
    others = f"; not read: {', '.join(found.columns.others)}" if found.columns.others else ""
    texts = " and ".join(f"'{column}'" for column in found.columns.texts)
    return [Text(f"columns   text {texts}, label '{found.columns.label}'{others}")]


def _length_lines(found: Inspection) -> list[RenderableType]:
    lengths = found.lengths
    shares = table_of(Column("share of texts", left=True), *lengths.quantiles, "longest", "mean")
    shares.add_row(
        "tokens", *(f"{value:,}" for value in lengths.quantiles.values()), f"{lengths.longest:,}", f"{lengths.mean:.0f}"
    )
    cut = table_of(Column("--max-length", left=True), *(f"{limit:,}" for limit in lengths.cut))
    cut.add_row("truncated", *(units.percent(share) for share in lengths.cut.values()))
    of = "" if lengths.n == sum(found.rows.values()) else f", from a sample of {lengths.n:,} texts"
    return [f"Text lengths with the tokenizer of {found.base}{of}:", shares, cut]


def _suspicion_lines(found: Inspection) -> list[Text]:
    lines = [Text("Likely problems:" if found.suspicious else "No problems found.")]
    lines += [Text(f"- {line}") for line in found.suspicious]
    if found.refused is not None:
        lines.append(Text(f"compare and train would refuse this data: {found.refused}"))
    return lines


def _finding_lines(found: Inspection) -> list[RenderableType]:
    if not found.findings:
        return []
    table = table_of(Column("finding", left=True), "n", Column("rows", left=True), Column("text", left=True))
    for finding in found.findings:
        rows = [
            f"{row.row}" + ("" if row.other is None else f" like {row.other}") for row in finding.rows[:_SHOWN_ROWS]
        ]
        text = " ".join((finding.rows[0].text or "").split())
        shown = ", ".join(rows) + (", ..." if finding.n > len(rows) else "")
        table.add_row(Text(finding.kind), f"{finding.n:,}", Text(shown), Text(units.clip(text, _TEXT_CHARACTERS)))
    return ["", table]
