"""Read a file of any size row by row; every error names the file and the exact row."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from feathertune.data.reading.formats import FORMATS, Format, Row, parquet_schema
from feathertune.errors import DataError, nearest
from feathertune.input_files import check_regular

__all__ = ["FORMATS", "JSON_LINES", "Row", "columns", "ending_of", "missing", "parquet_schema", "read_rows"]

JSON_LINES = (".jsonl", ".ndjson")
COMPRESSED = (".gz", ".zst")


def ending_of(path: Path) -> str:
    """Return the extension that decides a file's format: ``.csv`` for ``a.csv`` and ``a.csv.gz``."""
    ending = path.suffix.lower()
    return Path(path.stem).suffix.lower() if ending in COMPRESSED else ending


def read_rows(path: Path, *, only: Collection[str] | None = None) -> Iterator[Row]:
    """Read a UTF-8 file row by row; iteration raises a `DataError` for a missing, unknown or broken file.

    The extension, one of `FORMATS`, decides the format. Parquet reads only the columns in `only`; the other formats
    yield all columns.
    """
    return _guarded(path, _format_of(path).rows(path, only))


def columns(path: Path) -> tuple[str, ...]:
    """Return a file's column names (for JSONL, the first object's keys); raises the errors of `read_rows`."""
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
    usable = [e for e in entries if ending_of(Path(e)) in FORMATS or (folder / e).is_dir()]
    return DataError(f"{path} does not exist.{nearest(path.name, [e for e in usable if e[0] != '.'])}")


def _format_of(path: Path) -> Format:
    if not os.path.exists(path):
        raise missing(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder. Expected a file: {', '.join(FORMATS)}.")
    check_regular(path)
    ending = ending_of(path)
    if ending not in FORMATS:
        found = f"ends in '{ending}'" if ending else "has no ending"
        raise DataError(
            f"{path.name} {found}. Expected one of {', '.join(FORMATS)}, optionally with .gz or .zst. Convert the file."
        )
    return FORMATS[ending]


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be read: {error.strerror or error}.")


def _guarded(path: Path, rows: Iterator[Row]) -> Iterator[Row]:
    try:
        yield from rows
    except OSError as error:
        raise _unreadable(path, error) from error
