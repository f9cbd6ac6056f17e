"""A cleaned copy of a source, with a list of all changes: what is certain is done, what is suspected is not.

The original is only read. Left out are rows that cannot be used, that repeat a text with its label, whose text stands
in a later split, and all rows of a text with several labels. Characters are repaired where there is one cause only.
Not for suspected labels or nearly equal texts: those need a person.
"""

from __future__ import annotations

import contextlib
import csv
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from feathertune.data.reading import rows as row_reader
from feathertune.data.reading.outputs import ENDINGS, Delimited, JsonLines, Parquet, RowWriter
from feathertune.errors import ConfigError, DataError
from feathertune.quality.oddities import repaired
from feathertune.quality.repeats import find_repeats
from feathertune.quality.scan import IGNORED, NULL, PROBLEMS, Scan
from feathertune.quality.tables import BETWEEN, FileTable

KEPT, UNUSABLE, CONFLICT, OVERLAP, DUPLICATE = range(5)
REASONS = (
    "",
    "cannot be used",
    "stands there with another label, too",
    "stands in a later split, too",
    "repeats a text and its label",
)
REPAIRED = "text repaired"
_CLIP = 300


@dataclass(frozen=True)
class Decisions:
    """What becomes of each row of the source.

    Attributes:
        reasons: Into `REASONS`, 0 for a row that stays, ``(N,)``.
        others: The row because of which one goes; -1 where there is none, ``(N,)``.
        repaired: Whether the text of a row that stays is repaired, ``(N,)``.
    """

    reasons: NDArray[np.uint8]
    others: NDArray[np.int64]
    repaired: NDArray[np.bool_]


@dataclass
class Fixed:
    """What was done.

    Attributes:
        path: The copy.
        changes: The list of changes: row, what, why, the text before and after.
        n_read: Rows of the original.
        n_written: Of the copy.
        counts: Changed rows by what was done to them.
    """

    path: Path
    changes: Path
    n_read: int = 0
    n_written: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {**vars(self), "path": str(self.path), "changes": str(self.changes), "counts": dict(self.counts)}


def changes_path(path: Path) -> Path:
    """Where the list of changes lies, beside the copy."""
    return path.with_name(f"{path.stem}.changes.csv")


def check_output(scan_source: str, path: Path, *, overwrite: bool) -> None:
    """Refuse a place for the copy before the work for it is done.

    Raises:
        ConfigError: If it is the original, a file stands there that may not be replaced, or its ending is another one.
    """
    source = Path(scan_source)
    is_file = source.is_file()
    endings = (source.suffix.lower(),) if is_file else ENDINGS
    if path.suffix.lower() not in endings:
        raise ConfigError(
            f"--fix {path} ends in '{path.suffix}'. Expected {' or '.join(endings)}"
            + (", as the source: the copy has its format and columns." if is_file else ".")
        )
    for place in (path, changes_path(path)):
        if is_file and place.exists() and place.samefile(source):
            raise ConfigError(f"--fix {path} would replace the source itself. Expected another file.")
        if place.is_dir():
            raise ConfigError(f"--fix {path}: {place} is a folder. Expected a file.")
        if place.exists() and not overwrite:
            raise ConfigError(f"{place} exists. Give another --fix, or --overwrite to replace it.")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--fix {path}: there is no folder {path.parent}.")


def decide(scan: Scan) -> Decisions:
    """What becomes of each row; texts count as they are after their repair."""
    hashes, problems = scan.hashes.copy(), scan.problems.copy()
    mended = np.zeros(len(hashes), bool)
    for row, found in scan.repaired_hashes.items():
        hashes[row], mended[row] = found, True
    problems[(problems == NULL) & (scan.labels >= 0)] = 0
    usable = (problems == 0) & ~(mended & (hashes == hash("")))
    repeats = find_repeats(hashes, scan.labels, scan.splits, usable)
    rows, groups = repeats.rows, repeats.groups
    reasons, others = np.zeros(len(hashes), np.uint8), np.full(len(hashes), -1, np.int64)
    earlier = scan.splits[rows] < repeats.last_split[groups]
    contradicted = repeats.contradicted[groups]
    stays = repeats.first_where(~earlier)
    why = np.where(contradicted, CONFLICT, np.where(earlier, OVERLAP, np.where(rows != stays, DUPLICATE, KEPT)))
    reasons[rows] = why
    others[rows] = np.where(contradicted, repeats.against(scan.labels), np.where(why == KEPT, -1, stays))
    reasons[~usable & (problems != IGNORED)] = UNUSABLE
    return Decisions(reasons, others, mended & (reasons == KEPT))


def write_fixed(scan: Scan, path: Path) -> Fixed:
    """Write the copy of the first table and the list of changes, both whole or not at all.

    Args:
        scan: Of all rows.
        path: Where; `check_output` has seen it.

    Raises:
        DataError: If no row would stay.
        ConfigError: If it cannot be written.
    """
    decisions = decide(scan)
    if not (decisions.reasons[: scan.starts[1]] == KEPT).any():
        raise DataError(f"Nothing of {scan.tables[0].name} would be left: no row stays as it is. Nothing was written.")
    fixed = Fixed(path, changes_path(path))
    partial, partial_changes = (place.with_name(f".{place.name}.tmp") for place in (path, fixed.changes))
    try:
        with (
            partial_changes.open("w", encoding="utf-8", newline="") as file,
            _writer(scan, partial, path.suffix.lower()) as writer,
        ):
            changes = csv.writer(file, lineterminator="\n")
            changes.writerow(["row", "what", "because of row", "of", "label", "text", "text after"])
            for values in _rows(scan, decisions, changes, fixed):
                writer.write(values)
        for temporary, place in ((partial, path), (partial_changes, fixed.changes)):
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(place)
    except OSError as error:
        raise ConfigError(f"--fix {path} cannot be written: {error.strerror or error}.") from error
    finally:
        for temporary in (partial, partial_changes):
            temporary.unlink(missing_ok=True)
    return fixed


def _rows(scan: Scan, decisions: Decisions, changes: Any, fixed: Fixed) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - csv
    """The rows that stay, mended; tells of each that is changed."""
    table = scan.tables[0]
    columns = table.columns.texts if table.columns is not None else ("text",)
    if not isinstance(table, FileTable):
        if len(columns) > 1:
            raise DataError(f"{table.name} holds pairs of texts. --fix writes a copy of those of a file alone.")
        columns = ("text",)
    for row, values in enumerate(_originals(scan)):
        fixed.n_read += 1
        text = BETWEEN.join(str(values[column] or "") for column in columns)
        reason = int(decisions.reasons[row])
        if reason == KEPT and not decisions.repaired[row]:
            fixed.n_written += 1
            yield values
            continue
        number, other = scan.place(row)[1], int(decisions.others[row])
        label = scan.names[scan.labels[row]] if scan.labels[row] >= 0 else ""
        if reason == KEPT:
            after = repaired(text)
            fixed.counts[REPAIRED] += 1
            fixed.n_written += 1
            changes.writerow([number, REPAIRED, "", "", label, text[:_CLIP], after[:_CLIP]])
            yield {**values, **{column: repaired(str(values[column])) for column in columns}}
            continue
        fixed.counts[f"left out: {REASONS[reason]}"] += 1
        why = REASONS[reason]
        if reason == UNUSABLE:
            why += f": {PROBLEMS[scan.problems[row]] or 'nothing is left of it'}"
        of_table, of_number = scan.place(other) if other >= 0 else (0, "")
        of = scan.tables[of_table].name if other >= 0 else ""
        written = text[:_CLIP].encode("utf-8", "replace").decode().replace("\0", "")
        changes.writerow([number, f"left out: {why}", of_number, of, label, written, ""])


def _originals(scan: Scan) -> Iterator[dict[str, Any]]:
    """All rows of the first table, as they are."""
    table = scan.tables[0]
    if isinstance(table, FileTable):
        for row in row_reader.read_rows(table.path):
            yield row.values
        return
    for block in table.blocks():
        splits = block.splits
        for place, (text, label) in enumerate(zip(block.texts, block.labels, strict=True)):
            yield {"text": text, "label": label, **({} if splits is None else {"split": splits[place]})}


@contextlib.contextmanager
def _writer(scan: Scan, partial: Path, ending: str) -> Iterator[RowWriter]:
    table = scan.tables[0]
    if ending == ".parquet":
        schema = pq.read_schema(table.path) if isinstance(table, FileTable) else None
        with contextlib.closing(Parquet(partial, schema)) as writer:
            yield writer
        return
    with partial.open("w", encoding="utf-8", newline="") as file:
        yield Delimited(file, "\t" if ending == ".tsv" else ",") if ending in (".csv", ".tsv") else JsonLines(file)
