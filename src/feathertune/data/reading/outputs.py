"""Predictions to a file, row by row, as ``NAME.partial`` until the last one; its ending decides the format."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from feathertune.errors import ConfigError, DataError

ENDINGS = (".jsonl", ".csv", ".tsv", ".parquet")
LIST_SEPARATOR = "|"
_PARQUET_ROWS = 10_000


class RowWriter(Protocol):
    """Takes rows with the same keys."""

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row."""


class JsonLines:
    """One JSON object a line."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")


class Delimited:
    """CSV or TSV. A nested value gets a column for each key, ``probabilities.positive``; a list is joined by ``|``."""

    def __init__(self, file: IO[str], delimiter: str) -> None:
        self._writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        self._header_written = False

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        flat = _flat(row, lists=False)
        if not self._header_written:
            self._writer.writerow(flat.keys())
            self._header_written = True
        self._writer.writerow(flat.values())


class Parquet:
    """Parquet in row groups. Without a schema, nested values get columns of their own."""

    def __init__(self, path: Path, schema: pa.Schema | None = None) -> None:
        self._path = path
        self._schema = schema
        self._rows: list[dict[str, Any]] = []
        self._writer: pq.ParquetWriter | None = None

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        self._rows.append(_flat(row, lists=True) if self._schema is None else dict(row))
        if len(self._rows) == _PARQUET_ROWS:
            self._flush()

    def close(self) -> None:
        """Write the last row group."""
        self._flush()
        if self._writer is not None:
            self._writer.close()

    def _flush(self) -> None:
        if not self._rows:
            return
        table = pa.Table.from_pylist(self._rows, schema=self._writer.schema if self._writer else self._schema)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)
        self._rows = []


def _flat(row: Mapping[str, Any], *, lists: bool) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}.{inner}": item for inner, item in value.items()})
        elif isinstance(value, list) and not lists:
            flat[key] = LIST_SEPARATOR.join(map(str, value))
        else:
            flat[key] = value
    return flat


@contextlib.contextmanager
def open_output(path: Path, *, overwrite: bool) -> Iterator[RowWriter]:
    """Open a file for rows, or raise a `ConfigError`; a `DataError` from within gets the partial file's name."""
    if path.suffix.lower() not in ENDINGS:
        raise ConfigError(f"The output {path} ends in '{path.suffix}'. Expected one of {', '.join(ENDINGS)}.")
    if path.exists() and not overwrite:
        raise ConfigError(f"The output {path} exists. Give another --output, or --overwrite to replace it.")
    partial = path.with_name(path.name + ".partial")
    with contextlib.ExitStack() as stack:
        try:
            writer = stack.enter_context(row_writer(partial, path.suffix.lower()))
        except OSError as error:
            raise ConfigError(f"The output {path} cannot be written: {error.strerror}.") from error
        try:
            yield writer
        except DataError as error:
            raise DataError(f"{error} What was predicted before it is kept in {partial}.") from error
    partial.replace(path)


@contextlib.contextmanager
def row_writer(path: Path, ending: str, schema: pa.Schema | None = None) -> Iterator[RowWriter]:
    """Write rows to a file in the format of an ending, until the block ends; the schema is that of parquet."""
    with path.open("w", encoding="utf-8", newline="") as file:
        if ending == ".parquet":
            with contextlib.closing(Parquet(path, schema)) as writer:
                yield writer
        elif ending in (".csv", ".tsv"):
            yield Delimited(file, "\t" if ending == ".tsv" else ",")
        else:
            yield JsonLines(file)
        file.flush()
        os.fsync(file.fileno())
