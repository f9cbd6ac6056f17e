"""Rows of a file of any size, one at a time, for training data and `feathertune predict`.

Every error names the file and the exact row.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from feathertune.data.reading.formats import FORMATS, Format, Row
from feathertune.errors import DataError, nearest

__all__ = ["FORMATS", "Row", "columns", "missing", "read_rows"]


def read_rows(path: Path, *, only: Collection[str] | None = None) -> Iterator[Row]:
    """Read a file row by row, in file order.

    Args:
        path: Its ending, one of `FORMATS`, decides the format. A ``.txt`` file holds one text a line, in the column
            ``text``. Text is UTF-8, with or without a byte order mark. Empty lines of CSV and JSONL are skipped.
        only: The columns needed. Parquet reads no others; the other formats yield all columns.

    Raises:
        DataError: If the file is missing, of an unknown format, or broken; a broken row raises when it is reached.
    """
    return _guarded(path, _format_of(path).rows(path, only))


def columns(path: Path) -> tuple[str, ...]:
    """Return the names of a file's columns; for JSONL, the keys of the first object.

    Raises:
        DataError: As in `read_rows`, and if the file is empty.
    """
    form = _format_of(path)
    try:
        return form.columns(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def missing(path: Path) -> DataError:
    """Return the error for a missing path; it names similar files in the folder."""
    folder = path.parent
    try:
        entries = sorted(os.listdir(folder))
    except (OSError, ValueError):
        return DataError(f"{path} does not exist: there is no folder {folder}.")
    usable = [e for e in entries if Path(e).suffix.lower() in FORMATS or (folder / e).is_dir()]
    return DataError(f"{path} does not exist.{nearest(path.name, [e for e in usable if e[0] != '.'])}")


def _format_of(path: Path) -> Format:
    if not os.path.exists(path):
        raise missing(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder. Expected a file: {', '.join(FORMATS)}.")
    ending = path.suffix.lower()
    if ending not in FORMATS:
        found = f"ends in '{ending}'" if ending else "has no ending"
        raise DataError(f"{path.name} {found}. Expected one of {', '.join(FORMATS)}: convert the file.")
    return FORMATS[ending]


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be read: {error.strerror or error}.")


def _guarded(path: Path, rows: Iterator[Row]) -> Iterator[Row]:
    try:
        yield from rows
    except OSError as error:
        raise _unreadable(path, error) from error
