"""Tables for `feathertune inspect`: sources whose rows can be read repeatedly without keeping a file in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feathertune.data.reading import rows
from feathertune.data.reading.columns import Columns
from feathertune.data.reading.texts import parts
from feathertune.data.sources.collector import RawDataset, ReadOptions
from feathertune.data.sources.files import file_columns
from feathertune.data.sources.registry import SOURCES, load_source
from feathertune.errors import DataError
from feathertune.input_files import state_of
from feathertune.tasks.labels.reader import LabelReader
from feathertune.tasks.labels.sets import LABEL_SETS

# Between the texts of a pair, and between the labels of a text that has several.
BETWEEN, _SET, NO_LABEL = "\n", " | ", "(no label)"
_BLOCK_ROWS, _BLOCK_CHARACTERS = 8192, 1_000_000


class TableRow(NamedTuple):
    """One row, as read from the source."""

    text: Any  # both texts of a pair, joined
    label: Any  # name of the label set (`set_of`) if a text may have several labels
    split: Any
    number: int  # row number for messages
    others: tuple[Any, ...] = ()  # values of `Table.other_columns`


@dataclass(frozen=True)
class Table:
    """A source that can be read repeatedly."""

    name: str
    place: str  # prefix of a row's number in messages, such as ``reviews.csv, row``
    rows: Callable[[], Iterator[TableRow]]  # reads all rows from the start
    columns: Columns | None
    has_splits: bool
    has_sets: bool  # a text may have several labels
    path: Path | None = None  # None for a source that is not a file
    other_columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # changes that the source made
    label_order: tuple[str, ...] | None = None
    n_dropped: int = 0  # rows that the source skipped as unusable
    n_repeated: int = 0  # rows that the source skipped as repeats of a text
    state: tuple[int, ...] = ()  # state of the file before the first read

    def check_same(self) -> None:
        """Raise a `DataError` if the file changed since the first read."""
        try:
            same = self.path is None or state_of(self.path) == self.state
        except OSError:
            same = False
        if not same:
            raise self.changed()

    def changed(self) -> DataError:
        """Return the error for a file that changed since the first read."""
        return DataError(f"{self.name} was changed while it was read. Nothing was written. Run the command again.")

    def blocks(self) -> Iterator[list[TableRow]]:
        """Read all rows, in blocks of up to about a million characters."""
        block: list[TableRow] = []
        size = 0
        for row in self.rows():
            block.append(row)
            size += len(row.text) if isinstance(row.text, str) else 0
            if len(block) == _BLOCK_ROWS or size >= _BLOCK_CHARACTERS:
                yield block
                block, size = [], 0
        if block:
            yield block

    def texts(self, wanted: NDArray[np.int64]) -> Iterator[str]:
        """Read the texts of the given rows, ascending from 0, ``(W,)``; stop after the last."""
        source, at = self.rows(), 0
        for row in wanted.tolist():
            if (found := next(islice(source, row - at, None), None)) is None:
                raise self.changed()
            yield str(found.text or "")
            at = row + 1


def table_of(name: str, options: ReadOptions) -> Table:
    """Return a source's table: files are read row by row, other sources are loaded."""
    scheme, colon, _ = name.partition(":")
    if not (colon and scheme in SOURCES) and os.path.isfile(name):
        return file_table(name, options)
    return loaded_table(load_source(name, replace(options, drop_invalid=True)))


def file_table(name: str, options: ReadOptions) -> Table:
    """Return the table of a file with columns."""
    path = Path(name)
    state = state_of(path)
    columns, split = file_columns(path, options)
    has_sets = options.label_separator is not None or options.labels.kind.sets
    if not has_sets:  # unless the first label is a list
        has_sets = any(isinstance(row.values.get(columns.label), list) for row in islice(rows.read_rows(path), 1))

    def read() -> Iterator[TableRow]:
        reader = options.labels
        for values, where in rows.read_rows(path):
            label = values.get(columns.label)
            yield TableRow(
                values.get(columns.text) if columns.text_pair is None else _both_texts(columns.text_of(values)),
                set_name(reader, label, where) if has_sets else label,
                None if split is None else values.get(split),
                int(where.rpartition(" ")[2]),
                tuple(map(values.get, columns.others)),
            )

    return Table(
        name=name,
        place=f"{path.name}, {'line' if rows.ending_of(path) in rows.JSON_LINES else 'row'}",
        rows=read,
        columns=columns,
        has_splits=split is not None,
        has_sets=has_sets,
        path=path,
        other_columns=columns.others,
        state=state,
    )


def loaded_table(data: RawDataset) -> Table:
    """Return the table of a source in memory."""

    def read() -> Iterator[TableRow]:
        splits: Sequence[str | None] = data.split or [None] * len(data.texts)
        for number, (text, label, split) in enumerate(zip(data.texts, data.labels, splits, strict=True), start=1):
            name = _SET.join(data.kind.names_of(label)) or NO_LABEL if data.kind.sets else label
            yield TableRow(BETWEEN.join(parts(text)), name, split, number)

    return Table(
        name=data.source,
        place=f"{data.source}, row",
        rows=read,
        columns=data.columns,
        has_splits=data.split is not None,
        has_sets=data.kind.sets,
        notes=data.notes,
        label_order=data.label_order,
        n_dropped=data.rows_dropped,
        n_repeated=data.duplicates_removed,
    )


def _both_texts(text: Any) -> object:  # noqa: ANN401 - a tuple
    """Return both texts of a pair joined: empty if one is empty; a value that is not a text is returned as it is."""
    for part in text:
        if part is not None and not isinstance(part, str):
            return part
    return "" if any(not part or part.isspace() for part in text) else BETWEEN.join(text)


def set_name(reader: LabelReader, value: object, where: str) -> str | None:
    """Return the name of a label set, the same for equal sets; `set_of` is the inverse."""
    found = reader.read(value, where)
    return None if found is None else _SET.join(LABEL_SETS.names_of(found)) or NO_LABEL


def set_of(name: str) -> tuple[str, ...]:
    """Return the labels in a set's name."""
    return () if name == NO_LABEL else tuple(name.split(_SET))
