"""Write a cleaned copy of a source and a list of all changes; only certain errors are corrected.

The original stays unchanged. The copy excludes unusable rows, duplicates of a text and label, rows whose text is also
in a later split, and all rows of a text with conflicting labels.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feathertune.data.reading import rows as row_reader
from feathertune.data.reading.outputs import ENDINGS, csv_writer, row_writer
from feathertune.errors import ConfigError, DataError
from feathertune.output_folder import output_errors
from feathertune.quality.duplicates import find_duplicates
from feathertune.quality.findings import clipped
from feathertune.quality.scan import IGNORED, NULL, PROBLEMS, Scan
from feathertune.quality.tables import BETWEEN, Table
from feathertune.quality.text_checks import repaired
from feathertune.storage import open_new, put_in_place

KEPT, UNUSABLE, CONFLICT, OVERLAP, DUPLICATE = range(5)
REASONS = (
    "",
    "unusable",
    "text has conflicting labels",
    "text is also in a later split",
    "duplicate of a text and label",
)
REPAIRED = "text repaired"


@dataclass(frozen=True)
class Decisions:
    """Decision for each row; arrays are ``(N,)``."""

    reasons: NDArray[np.uint8]  # index into `REASONS`, 0 for a row that is kept
    others: NDArray[np.int64]  # the row that is the reason; -1 if none
    repaired: NDArray[np.bool_]  # rows that are kept with a repaired text


@dataclass
class Fixed:
    """Result of a fix: paths of the copy and its changes, row counts, and changed rows by kind of change."""

    path: Path
    changes: Path
    n_read: int = 0
    n_written: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """Return the result as a JSON object."""
        return {**vars(self), "path": str(self.path), "changes": str(self.changes), "counts": dict(self.counts)}


def changes_path(path: Path) -> Path:
    """Return the path of the list of changes, next to the copy."""
    return path.with_name(f"{path.stem}.changes.csv")


def check_output(source_name: str, path: Path, *, overwrite: bool) -> None:
    """Raise a `ConfigError` if the copy would replace its source or an existing file, or has the wrong ending."""
    source = Path(source_name)
    is_file = source.is_file()
    endings = (row_reader.ending_of(source),) if is_file else ENDINGS
    if path.suffix.lower() not in endings:
        raise ConfigError(
            f"--fix {path} ends in '{path.suffix}'. Expected {' or '.join(endings)}"
            + (", like the source, because the copy keeps its format and columns." if is_file else ".")
        )
    for place in (path, changes_path(path)):
        if is_file and place.exists() and place.samefile(source):
            raise ConfigError(f"--fix {path} would replace the source. Expected another file.")
        if place.is_dir():
            raise ConfigError(f"--fix {path}: {place} is a folder. Expected a file.")
        if place.exists() and not overwrite:
            raise ConfigError(f"{place} exists. Pass another --fix, or --overwrite to replace it.")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--fix {path}: the folder {path.parent} does not exist.")


def decide(scan: Scan) -> Decisions:
    """Decide what happens to each row, judged by its text after repair."""
    hashes, problems = scan.hashes.copy(), scan.problems.copy()
    mended = np.zeros(len(hashes), bool)
    for row, of_repaired in scan.repaired_hashes.items():
        hashes[row], mended[row] = of_repaired, True
    problems[(problems == NULL) & (scan.labels >= 0)] = 0
    usable = (problems == 0) & ~(mended & (hashes == hash("")))
    found = find_duplicates(hashes, scan.labels, scan.splits, usable)
    reasons, others = np.zeros(len(hashes), np.uint8), np.full(len(hashes), -1, np.int64)
    why = np.where(found.overlapping, OVERLAP, np.where(found.rows != found.kept, DUPLICATE, KEPT))
    reasons[found.rows] = why = np.where(found.contradicted, CONFLICT, why)
    others[found.rows] = np.where(found.contradicted, found.against, np.where(why == KEPT, -1, found.kept))
    reasons[~usable & (problems != IGNORED)] = UNUSABLE
    return Decisions(reasons, others, mended & (reasons == KEPT))


def write_fixed(scan: Scan, path: Path, *, overwrite: bool = True) -> Fixed:
    """Write the copy of the first table and the list of changes, either both or neither.

    DataError if no row would be kept, or the source changed since the scan; ConfigError if a file cannot be written.
    """
    decisions = decide(scan)
    table = scan.tables[0]
    if not (decisions.reasons[: scan.starts[1]] == KEPT).any():
        raise DataError(f"No row of {table.name} would be kept. Nothing was written.")
    fixed = Fixed(path, changes_path(path))
    ending = path.suffix.lower()
    with output_errors(path, "--fix"), contextlib.ExitStack() as stack:
        descriptor, partial = open_new(path)
        stack.callback(partial.unlink, missing_ok=True)
        changes_descriptor, partial_changes = open_new(fixed.changes)
        stack.callback(partial_changes.unlink, missing_ok=True)
        schema = row_reader.parquet_schema(table.path) if table.path is not None and ending == ".parquet" else None
        with (
            os.fdopen(changes_descriptor, "w", encoding="utf-8", newline="") as file,
            row_writer(descriptor, ending, schema) as writer,
        ):
            changes = csv_writer(file)
            changes.writerow(["row", "what", "because of row", "of", "label", "text", "text after"])
            for values in _rows(scan, decisions, changes.writerow, fixed):
                writer.write(values)
            file.flush()
            os.fsync(changes_descriptor)
        table.check_same()
        is_new = not fixed.changes.exists()
        put_in_place(partial_changes, fixed.changes, overwrite=overwrite)
        try:
            put_in_place(partial, path, overwrite=overwrite)
        except OSError:
            if is_new:
                fixed.changes.unlink()
            raise
    return fixed


def _rows(
    scan: Scan, decisions: Decisions, list_change: Callable[[list[object]], object], fixed: Fixed
) -> Iterator[dict[str, Any]]:
    """Yield the kept rows, repaired; list and count all changes."""
    table = scan.tables[0]
    columns = ("text",) if table.path is None or table.columns is None else table.columns.texts
    if table.path is None and table.columns is not None and table.columns.text_pair is not None:
        raise DataError(f"{table.name} holds pairs of texts. --fix supports pairs only in files.")
    for row, values in enumerate(_originals(table)):
        fixed.n_read += 1
        text = BETWEEN.join(str(values.get(column) or "") for column in columns)
        if row >= scan.starts[1] or (len(columns) == 1 and hash(text) != scan.hashes[row]):
            raise table.changed()
        reason, number, label = int(decisions.reasons[row]), int(scan.numbers[row]), scan.label(row) or ""
        if reason == KEPT:
            fixed.n_written += 1
            if decisions.repaired[row]:
                fixed.counts[REPAIRED] += 1
                list_change([number, REPAIRED, "", "", label, _shown(text), _shown(repaired(text))])
                values = {**values, **{column: repaired(str(values.get(column) or "")) for column in columns}}
            yield values
            continue
        done = f"removed: {REASONS[reason]}"
        fixed.counts[done] += 1
        if reason == UNUSABLE:
            done += f": {PROBLEMS[scan.problems[row]] or 'empty after repair'}"
        other = int(decisions.others[row])
        because = ("", "") if other < 0 else (int(scan.numbers[other]), scan.table(other).name)
        list_change([number, done, *because, label, _shown(text), ""])
    if fixed.n_read != scan.starts[1]:
        raise table.changed()


def _originals(table: Table) -> Iterator[dict[str, Any]]:
    if table.path is not None:
        yield from (row.values for row in row_reader.read_rows(table.path))
        return
    for row in table.rows():
        yield {"text": row.text, "label": row.label, **({"split": row.split} if table.has_splits else {})}


def _shown(text: str) -> str:
    """Return the beginning of a text, without null bytes, which a CSV cannot hold."""
    return clipped(text).replace("\0", "")
