"""Stream CSV, TSV, JSONL, Parquet and plain text, with exact row numbers.

CSV uses the standard library's reader: faster ones lose row numbers and cannot stream a quoted newline across blocks.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from feathertune.errors import DataError, first_line, is_whole, shown

# Maximum characters of a field or line, so that an unclosed quote or a compressed gigabyte of zeros cannot fill memory.
_LONGEST_FIELD = 100_000_000
_BATCH_ROWS = 1024
_READ_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_LONGEST_NAME = 1_000
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")  # a byte that is not UTF-8, as "surrogateescape" decodes it


class Row(NamedTuple):
    """One row: values by column name (strings in CSV and text), and its location for messages."""

    values: dict[str, Any]
    where: str


class Format(NamedTuple):
    """Functions that read the column names and the rows of one format."""

    columns: Callable[[Path], tuple[str, ...]]
    rows: Callable[[Path, Collection[str] | None], Iterator[Row]]


class _NotUtf8Error(Exception):
    def __init__(self, byte: int) -> None:
        self.byte = byte


# Text files


def _open(path: Path) -> io.BufferedReader:
    """Open a file after its byte order mark; compression is recognised by content."""
    file = path.open("rb")
    for magic, compression in _COMPRESSED.items():
        if file.peek(len(magic)).startswith(magic):
            file = io.BufferedReader(pa.input_stream(file, compression=compression), _READ_BYTES)
            break
    head = file.peek(len(_BOM))
    if head.startswith(_UTF16):
        file.close()
        raise DataError(f"{path.name} is in UTF-16. Expected UTF-8: save it as 'UTF-8' or 'CSV UTF-8'.")
    if head.startswith(_BOM):
        file.read(len(_BOM))
    return file


def _lines(file: Any, path: Path) -> Iterator[Any]:  # noqa: ANN401 - of bytes or of text
    """Read lines of limited length, as bytes or text."""
    while line := file.readline(_LONGEST_FIELD):
        if len(line) == _LONGEST_FIELD:
            raise DataError(f"{path.name} has a line longer than {_LONGEST_FIELD:,} characters. Split it.")
        yield line


def _utf8_lines(file: BinaryIO, newline: str | None, path: Path) -> Iterator[str]:
    with io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline=newline) as lines:
        for line in _lines(lines, path):
            if not line.isascii() and (bad := _ESCAPED_BYTE.search(line)):
                raise _NotUtf8Error(ord(bad.group()) - 0xDC00)
            yield line


def _not_utf8(where: str, byte: int) -> DataError:
    return DataError(f"{where}: byte 0x{byte:02X} is not UTF-8. Save the file as UTF-8.")


def _text_rows(path: Path, only: Collection[str] | None = None) -> Iterator[Row]:
    number = 0
    with _open(path) as file:
        try:
            for number, line in enumerate(_utf8_lines(file, None, path), start=1):
                yield Row({"text": line.removesuffix("\n")}, f"{path.name}, line {number}")
        except _NotUtf8Error as error:
            raise _not_utf8(f"{path.name}, line {number + 1}", error.byte) from None


# CSV and TSV


def _records(path: Path, delimiter: str) -> Iterator[list[str]]:
    csv.field_size_limit(max(_LONGEST_FIELD, csv.field_size_limit()))
    header: list[str] = []
    number = 0  # the row read last; 0 is the header
    line = 0  # the line on which that row ended

    def where(line: int) -> str:
        return f"{path.name}, " + (f"row {number + 1} (line {line})" if header else f"header (line {line})")

    with _open(path) as file:
        reader = csv.reader(_utf8_lines(file, "", path), delimiter=delimiter, strict=True)
        try:
            for record in reader:
                if not record:
                    continue
                if not header:
                    _check_names(record, path)
                    header = record
                elif len(record) != len(header):
                    raise DataError(
                        f"{where(reader.line_num)}: {len(record)} fields found, {len(header)} expected "
                        f"({shown(', '.join(header))}). Quote fields that contain a separator or a newline."
                    )
                else:
                    number += 1
                line = reader.line_num
                yield record
        except _NotUtf8Error as error:
            raise _not_utf8(where(line + 1), error.byte) from None
        except csv.Error as error:
            raise DataError(f"{where(line + 1)}: {_quote_problem(str(error))}") from error
    if not header:
        raise DataError(f"{path.name} is empty. Expected a line of column names, then one row per line.")


def _quote_problem(said: str) -> str:
    if "unexpected end of data" in said:
        return "a field opens with a double quote that is never closed. Close it, or double it if it is text."
    if "field larger" in said:
        return f"a field is longer than {_LONGEST_FIELD:,} characters. Is a double quote left open?"
    return f"the field cannot be read ({said}). Double each double quote inside a quoted field."


def _check_names(names: list[str], path: Path) -> None:
    seen: dict[str, int] = {}
    for position, name in enumerate(names, start=1):
        if not name.strip():
            raise DataError(
                f"{path.name}: column {position} of {len(names)} has no name. Name it in the header, or "
                "remove it (pandas: to_csv(..., index=False))."
            )
        if len(name) > _LONGEST_NAME:
            raise DataError(
                f"{path.name}: the name of column {position} has {len(name):,} characters. Expected at most "
                f"{_LONGEST_NAME:,}. Is the first line the header?"
            )
        if "\0" in name:
            raise DataError(f"{path.name}: the header contains a null byte. Expected text in UTF-8.")
        if seen.setdefault(name, position) != position:
            raise DataError(
                f"{path.name}: columns {seen[name]} and {position} are both named '{shown(name)}'. Rename one."
            )


def _table_columns(path: Path, delimiter: str) -> tuple[str, ...]:
    return tuple(next(_records(path, delimiter)))


def _table_rows(path: Path, only: Collection[str] | None, delimiter: str) -> Iterator[Row]:
    records = _records(path, delimiter)
    header = next(records)
    name = path.name
    for number, record in enumerate(records, start=1):
        yield Row(dict(zip(header, record, strict=True)), f"{name}, row {number}")


# JSONL


def _json_rows(path: Path, only: Collection[str] | None = None) -> Iterator[Row]:
    empty = True
    with _open(path) as file:
        for number, line in enumerate(_lines(file, path), start=1):
            if line.isspace():
                continue
            where = f"{path.name}, line {number}"
            try:
                value = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise _not_utf8(where, line[error.start]) from None
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{where}: not JSON ({error.msg} at character {error.pos + 1}). Expected "
                    'one object per line, such as {"text": "...", "label": "..."}.'
                ) from error
            except (ValueError, RecursionError) as error:  # a number of 5,000 digits; 100,000 brackets
                raise DataError(f"{where}: this JSON cannot be read ({error}).") from error
            if not isinstance(value, dict):
                raise DataError(
                    f"{where}: found a JSON {_json_kind(value)}. Expected one object per line, "
                    'such as {"text": "...", "label": "..."}.'
                )
            empty = False
            yield Row(value, where)
    if empty:
        raise DataError(f"{path.name} is empty. Expected one JSON object per line.")


def _json_kind(value: object) -> str:
    kinds: dict[type, str] = {list: "array", str: "string", bool: "boolean", type(None): "null"}
    return kinds.get(type(value), "number")


def _json_columns(path: Path) -> tuple[str, ...]:
    names = tuple(next(_json_rows(path)).values)
    for name in names:
        if len(name) > _LONGEST_NAME or not is_whole(name):
            raise DataError(
                f"{path.name}: the first object has the key {shown(ascii(name))}. Expected at most "
                f"{_LONGEST_NAME:,} characters, and no unpaired surrogate."
            )
    return names


# Parquet


# Errors that broken or unusual files raise; values of some types have no Python equivalent.
_BROKEN = (pa.ArrowException, OSError, ValueError, OverflowError, TypeError, KeyError, NotImplementedError, EOFError)


@contextlib.contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    with path.open("rb") as content:
        try:
            file = pq.ParquetFile(content, buffer_size=_READ_BYTES, pre_buffer=False)
            names = file.schema_arrow.names
        except _BROKEN as error:
            raise DataError(f"{path.name} is not a Parquet file ({first_line(error)}).") from error
        _check_names(names, path)
        yield file


def parquet_schema(path: Path) -> pa.Schema:
    """Return the columns of a Parquet file."""
    with _parquet(path) as file:
        return file.schema_arrow


def _parquet_columns(path: Path) -> tuple[str, ...]:
    return tuple(parquet_schema(path).names)


def _parquet_rows(path: Path, only: Collection[str] | None) -> Iterator[Row]:
    number = 0
    with _parquet(path) as file:
        names = [name for name in file.schema_arrow.names if only is None or name in only]
        try:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=names, use_threads=False):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(values, f"{path.name}, row {number}")
        except UnicodeDecodeError as error:
            bad = next(i for i in range(batch.num_rows) if not _decodes(batch.slice(i, 1)))
            raise _not_utf8(f"{path.name}, row {number + bad + 1}", error.object[error.start]) from None
        except _BROKEN as error:
            raise DataError(
                f"{path.name} cannot be read after row {number} ({first_line(error)}). The file is damaged, or holds "
                "values that Python has no type for. Write it again."
            ) from error


def _decodes(batch: pa.RecordBatch) -> bool:
    try:
        batch.to_pylist()
    except UnicodeDecodeError:
        return False
    return True


FORMATS: dict[str, Format] = {
    ".csv": Format(partial(_table_columns, delimiter=","), partial(_table_rows, delimiter=",")),
    ".tsv": Format(partial(_table_columns, delimiter="\t"), partial(_table_rows, delimiter="\t")),
    ".jsonl": Format(_json_columns, _json_rows),
    ".ndjson": Format(_json_columns, _json_rows),
    ".parquet": Format(_parquet_columns, _parquet_rows),
    ".txt": Format(lambda path: ("text",), _text_rows),
}
