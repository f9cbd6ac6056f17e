"""Write rows to a file in the format of its extension, under a temporary name until it is complete.

A value that a format cannot hold becomes text: dates as ISO 8601, decimals with all digits, bytes in base64, nested
values as JSON. NaN and infinity become empty, or null. Parquet keeps a column's type if all rows share it.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import datetime
import json
import math
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from feathertune.data.reading.rows import JSON_LINES, columns, ending_of, parquet_schema, read_rows
from feathertune.errors import ConfigError, DataError, first_line, shown
from feathertune.output_folder import check_output, output_errors
from feathertune.storage import open_new, put_in_place

ENDINGS = (".jsonl", ".csv", ".tsv", ".parquet")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
LIST_SEPARATOR = "|"
_AS_THEY_ARE = (str, int)
_PARQUET_ROWS = 10_000
_HALF_SURROGATES = re.compile("[\ud800-\udfff]")
# Beginnings of cells that spreadsheets run as formulas. Source: OWASP, CSV Injection.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


class RowWriter(Protocol):
    """Writer of rows. With a schema, keys must be among its names; a nested value may fill columns ``key.inner``."""

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row; raise a `DataError` if it has an unknown key or a value of the wrong type."""


class JsonLines:
    """Writer of one JSON object per line."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        try:
            self._file.write(_json(row) + "\n")
        except UnicodeEncodeError:  # an unpaired surrogate
            self._file.write(_json(row, ensure_ascii=True) + "\n")


def csv_writer(file: IO[str], delimiter: str = ",") -> Any:  # noqa: ANN401 - of the type that csv hides
    """Return a CSV writer that quotes carriage returns too, which csv does only if lines end in one."""
    lines = SimpleNamespace(write=lambda line: file.write(line[:-2] + "\n"))
    return csv.writer(lines, delimiter=delimiter, lineterminator="\r\n")


class Delimited:
    """Writer of CSV or TSV; joins lists of texts by ``|``. `spreadsheet_safe` puts an apostrophe before formulas."""

    def __init__(
        self, file: IO[str], delimiter: str, schema: pa.Schema | None = None, *, spreadsheet_safe: bool = False
    ) -> None:
        self._writer = csv_writer(file, delimiter)
        self._safe = spreadsheet_safe
        self._names: dict[str, None] = {}
        if schema is not None:
            self._begin(schema)

    def _begin(self, schema: pa.Schema) -> None:
        self._names = dict.fromkeys(schema.names)
        self._write(schema.names)

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row; missing values are empty."""
        if not self._names:
            self._begin(schema_of([spread(row)]))
        values = map(spread(row, self._names.keys()).get, self._names)
        self._write([value if type(value) in _AS_THEY_ARE else _cell(value) for value in values])

    def _write(self, cells: Sequence[Any]) -> None:
        if self._safe:
            cells = [f"'{cell}" if type(cell) is str and cell.startswith(_FORMULA) else cell for cell in cells]
        self._writer.writerow(cells)


class Parquet:
    """Writer of Parquet in row groups; values that do not fit a text column become text."""

    def __init__(self, file: BinaryIO, schema: pa.Schema | None = None) -> None:
        self._file = file
        self._schema = schema
        self._names: set[str] = set()
        self._rows: list[dict[str, Any]] = []
        self._n = 0
        self._writer: pq.ParquetWriter | None = None

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row; missing values are null."""
        if self._schema is None:
            self._schema = schema_of([spread(row)])
        self._names = self._names or {*self._schema.names}
        self._rows.append(spread(row, self._names))
        if len(self._rows) == _PARQUET_ROWS:
            self._flush()

    def close(self) -> None:
        """Write the last row group."""
        self._flush()
        if self._writer is not None:
            self._writer.close()

    def abandon(self) -> None:
        """Write nothing more, even when the object is deleted."""
        if self._writer is not None:
            self._writer.is_open = False

    def _flush(self) -> None:
        if self._schema is None:
            return
        rows, self._rows = self._rows, []
        first, self._n = self._n + 1, self._n + len(rows)
        arrays = [_array(field, [row.get(field.name) for row in rows], first) for field in self._schema]
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, self._schema)
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))


def _array(field: pa.Field, values: list[Any], first: int) -> pa.Array:
    if field.type == pa.string():
        values = [value if value is None or type(value) is str else str(_cell(value)) for value in values]
    try:
        return pa.array(values, type=field.type)
    except UnicodeEncodeError:
        if field.type == pa.string():
            return pa.array([value and _HALF_SURROGATES.sub("\ufffd", value) for value in values], type=field.type)
        problem = "an unpaired surrogate"
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        problem = first_line(error)
    raise DataError(
        f"Rows {first:,} to {first + len(values) - 1:,} of the column '{field.name}' cannot be written to Parquet as "
        f"{field.type} ({problem}). Write .jsonl instead."
    )


def spread(row: Mapping[str, Any], names: Set[str] | None = None) -> dict[str, Any]:
    """Spread nested values over columns ``key.inner`` unless `names` has their key; refuse columns not in `names`."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, dict) and (names is None or key not in names):
            flat.update({f"{key}.{inner}": item for inner, item in value.items()})
        else:
            flat[key] = value
    if names is not None and not flat.keys() <= names:
        new = shown(next(name for name in flat if name not in names))
        raise DataError(f"A row has the new column '{new}': the input changed while it was being read.")
    return flat


def _json(value: object, *, ensure_ascii: bool = False) -> str:
    try:
        return json.dumps(value, ensure_ascii=ensure_ascii, allow_nan=False, default=_plain)
    except ValueError:
        return json.dumps(_without_nan(value), ensure_ascii=ensure_ascii, default=_plain)


def _plain(value: object) -> Any:  # noqa: ANN401 - text, or nested text
    """Return text for a value that JSON cannot represent."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)


def _without_nan(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    return [_without_nan(inner) for inner in value] if isinstance(value, list | tuple) else value


def _cell(value: object) -> Any:  # noqa: ANN401 - text, or a number that is written as Python writes it
    if isinstance(value, float):
        return value if math.isfinite(value) else ""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return LIST_SEPARATOR.join(value)
    if isinstance(value, bool | dict | list | tuple):
        return _json(value)
    return value if isinstance(value, int) else _plain(value)


# Columns


def schema_of(rows: Iterable[Mapping[str, Any]]) -> pa.Schema:
    """Return the columns of rows; a column whose values have no common type is text."""
    types: dict[str, pa.DataType] = {}
    rows = iter(rows)
    while block := list(islice(rows, _PARQUET_ROWS)):
        for name in dict.fromkeys(name for row in block for name in row):
            types[name] = _common_type(types.get(name, pa.null()), [row.get(name) for row in block])
    return pa.schema([(name, pa.string() if kind == pa.null() else kind) for name, kind in types.items()])


def _common_type(known: pa.DataType, values: list[Any]) -> pa.DataType:
    try:
        schemas = [pa.schema([("", kind)]) for kind in (known, pa.array(values).type)]
        found = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return pa.string()
    return pa.string() if "struct<>" in str(found) else found  # Parquet has no empty structs


def schema_of_file(path: Path, *, typed: bool) -> pa.Schema:
    """Return a file's columns; for JSON lines, those of all rows up to a broken one, with types if `typed`."""
    ending = ending_of(path)
    if ending == ".parquet":
        return parquet_schema(path)
    if ending not in JSON_LINES:
        return pa.schema([(name, pa.string()) for name in columns(path)])
    try:
        if typed:
            return schema_of(_whole(path))
        names: dict[str, None] = {}
        for row in _whole(path):
            if not row.keys() <= names.keys():
                names |= dict.fromkeys(row)
        return pa.schema([(name, pa.string()) for name in names])
    except UnicodeEncodeError as error:
        raise DataError(f"{path.name} has a key with an unpaired surrogate: {shown(ascii(error.object))}.") from None


def _whole(path: Path) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(DataError):
        yield from (row.values for row in read_rows(path))


def free_names(names: Sequence[str], taken: Collection[str]) -> dict[str, str]:
    """Return new names, ``input_NAME``, for names that are taken."""
    used, found = {*names, *taken}, {}
    for name in filter({*taken}.__contains__, names):
        new = name
        while new in used:
            new = f"input_{new}"
        used.add(new)
        found[name] = new
    return found


# Files


@contextlib.contextmanager
def open_output(
    path: Path, schema: pa.Schema | None = None, *, overwrite: bool, spreadsheet_safe: bool = False
) -> Iterator[RowWriter]:
    """Open an output file; it gets its final name when the block ends, and an error names the file that keeps the rows.

    Raises:
        ConfigError: If the file cannot be written, or another process wrote it meanwhile.
        DataError: If the block raises one.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ConfigError(f"The output {path} ends in '{path.suffix}'. Expected one of {', '.join(ENDINGS)}.")
    if spreadsheet_safe and ending not in DELIMITERS:
        raise ConfigError(f"--spreadsheet-safe works only with .csv and .tsv, not with {path}. Leave it out.")
    with output_errors(path, "--output"):
        check_output(path, option="--output", overwrite=overwrite)
        descriptor, partial = open_new(path, ".partial")
    complete, kept = False, f"The predictions so far are kept in {partial}."
    try:
        with row_writer(descriptor, ending, schema, spreadsheet_safe=spreadsheet_safe) as writer:
            yield writer
        complete = True
        put_in_place(partial, path, overwrite=overwrite)
    except DataError as error:
        raise DataError(f"{error} {kept}") from error
    except FileExistsError as error:
        raise ConfigError(f"Another process wrote the output {path} meanwhile. {kept}") from error
    except OSError as error:
        if ending == ".parquet" and not complete:  # unreadable without its footer
            partial.unlink(missing_ok=True)
        kept = kept if partial.exists() else "Give another --output."
        raise ConfigError(f"The output {path} cannot be written: {error.strerror or error}. {kept}") from error


@contextlib.contextmanager
def row_writer(
    descriptor: int, ending: str, schema: pa.Schema | None = None, *, spreadsheet_safe: bool = False
) -> Iterator[RowWriter]:
    """Write rows to an open file in the format of an extension; sync and close it when the block ends."""
    if ending == ".parquet":
        with os.fdopen(descriptor, "wb") as file:
            parquet = Parquet(file, schema)
            try:
                yield parquet
            except OSError:  # nothing more can be written
                parquet.abandon()
                raise
            except BaseException:
                parquet.close()
                raise
            parquet.close()
            file.flush()
            os.fsync(descriptor)
        return
    errors = "replace" if ending in DELIMITERS else "strict"
    with os.fdopen(descriptor, "w", encoding="utf-8", errors=errors, newline="") as text:
        if ending in DELIMITERS:
            yield Delimited(text, DELIMITERS[ending], schema, spreadsheet_safe=spreadsheet_safe)
        else:
            yield JsonLines(text)
        text.flush()
        os.fsync(descriptor)
