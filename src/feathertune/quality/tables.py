"""Rows of a source in blocks, column by column, any number of times: what `feathertune inspect` reads.

Only one block is in memory at a time, and CSV goes through the reader of `feathertune.data.reading.formats` without a
step of Python a row. Whatever is wrong in a file is said by that reader, which then reads it row by row. Not for
training, which checks each row and keeps the texts: see `feathertune.data.sources.registry`.
"""

from __future__ import annotations

import csv
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from feathertune.data.reading import rows
from feathertune.data.reading.columns import Columns, find_column
from feathertune.data.reading.formats import open_lines, records_of
from feathertune.data.reading.texts import side_by_side
from feathertune.data.sources.collector import RawDataset, ReadOptions
from feathertune.data.sources.registry import SOURCES, load_source
from feathertune.tasks.labels.reader import LabelReader
from feathertune.tasks.labels.sets import LABEL_SETS
from feathertune.tasks.labels.values import Label

if TYPE_CHECKING:
    from _csv import Reader

# Between the texts of a pair, and between the labels of a text that has several.
BETWEEN, _SET, NO_LABEL = "\n", " | ", "(no label)"
_MOST_ROWS, _LEAST_ROWS = 8192, 64
_BLOCK_CHARACTERS = 1_000_000
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_BY_LINE = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Block:
    """Some rows of a source, one after the other.

    Attributes:
        texts: As the source gives them, ``(B,)``; so are labels.
        splits: None where the source has none, ``(B,)``.
        numbers: As messages call them, ``(B,)``.
        others: Values of the columns that are neither, by name, ``(B,)`` each.
    """

    texts: Sequence[Any]
    labels: Sequence[Any]
    splits: Sequence[Any] | None
    numbers: Sequence[int]
    others: dict[str, Sequence[Any]] = field(default_factory=dict)


class Table(Protocol):
    """A source that can be read again and again.

    Attributes:
        name: As the person gave it.
        place: What stands before a row's number in messages, such as ``reviews.csv, row``.
        columns: None where it has none.
        notes: What was done on the way, in plain words.
        n_dropped: Rows that the source has left out because they cannot be used.
        n_repeated: Rows that it has left out because their text stood there before.
        has_sets: A text may have several labels; what `Block.labels` holds are names of sets then. Known once a block
            was read.
    """

    name: str
    place: str
    columns: Columns | None
    notes: tuple[str, ...]
    label_order: tuple[str, ...] | None
    n_dropped: int
    n_repeated: int
    has_sets: bool

    def blocks(self) -> Iterator[Block]:
        """All rows, from the start."""
        ...

    def texts(self, wanted: NDArray[np.int64]) -> Iterator[Any]:
        """Read again, once `blocks` has come to its end without an error.

        Args:
            wanted: Rows, counted from 0 and rising, ``(W,)``.

        Returns:
            The text of each.
        """
        ...


def table_of(name: str, options: ReadOptions) -> Table:
    """The table of a source: a file as it lies there, any other source as `load_source` gives it.

    Raises:
        DataError: If the source, or one of the columns, is not there.
    """
    scheme, colon, _ = name.partition(":")
    if not (colon and scheme in SOURCES) and os.path.isfile(name):
        return FileTable(name, options)
    return LoadedTable(load_source(name, replace(options, drop_invalid=True)))


class FileTable:
    """A file with columns."""

    notes: tuple[str, ...] = ()
    label_order: tuple[str, ...] | None = None
    n_dropped = n_repeated = 0

    def __init__(self, name: str, options: ReadOptions) -> None:
        self.name, self.path = name, Path(name)
        self._names = rows.columns(self.path)
        columns = options.columns(self._names, self.path.name)
        self._split = None
        if options.split_column is not None:
            self._split = find_column(self._names, options.split_column, (), "split", self.path.name)
        used = (*columns.read, self._split)
        self.columns: Columns | None = replace(columns, others=tuple(name for name in self._names if name not in used))
        self._used = columns.texts
        self._label, self._reader = columns.label, options.labels
        self.has_sets = options.label_separator is not None or options.task == "multi_label"
        self._ending = self.path.suffix.lower()
        self._line_a_row = False
        self.place = f"{self.path.name}, {'line' if self._ending in _BY_LINE else 'row'}"

    def blocks(self) -> Iterator[Block]:
        """All rows, from the start."""
        if self._ending in _DELIMITERS:
            return self._table_blocks()
        return self._row_blocks()

    def texts(self, wanted: NDArray[np.int64]) -> Iterator[Any]:
        """The texts of some rows; no further than the last of them."""
        if self._ending not in _DELIMITERS:
            return _picked((block.texts for block in self._row_blocks()), wanted)
        return self._texts_of_lines(wanted) if self._line_a_row else _picked(self._pieces(), wanted)

    def _texts_of_lines(self, wanted: NDArray[np.int64]) -> Iterator[Any]:
        """Going to a line takes a fifth of the time that splitting those before it at their separators takes."""
        columns, at = [self._names.index(name) for name in self._used], -1  # the header's line
        with open_lines(self.path) as lines:
            for row in wanted.tolist():
                line = next(islice(lines, row - at, None))
                record = next(records_of([line], _DELIMITERS[self._ending]))
                yield joined([[record[column]] for column in columns])[0]
                at = row + 1

    def _pieces(self) -> Iterator[Sequence[Any]]:
        columns, size = [self._names.index(name) for name in self._used], 0
        with open_lines(self.path) as lines:
            reader = records_of(lines, _DELIMITERS[self._ending])
            next(record for record in reader if record)
            while records := list(islice(reader, size or _LEAST_ROWS)):
                texts = joined([[record[column] for record in records if record] for column in columns])
                yield texts
                size = _block_rows(texts or [""])

    def _table_blocks(self) -> Iterator[Block]:
        number, size = 1, _LEAST_ROWS
        text = self._names.index(self._used[0])
        with open_lines(self.path) as lines:
            reader, header_seen = records_of(lines, _DELIMITERS[self._ending]), False
            while records := self._records(reader, size):
                full = [record for record in records if record]  # empty lines are skipped
                if full and not header_seen:
                    header_seen = True
                    del full[0]
                if full:
                    columns = list(zip(*full, strict=True))
                    yield self._block(columns, range(number, number + len(full)))
                    number += len(full)
                    size = _block_rows(columns[text])
            self._line_a_row = reader.line_num == number  # the header has one, too

    def _records(self, reader: Reader, size: int) -> list[list[str]]:
        try:
            records = list(islice(reader, size))
            if set(map(len, records)) - {0, len(self._names)}:
                raise csv.Error("a row of another length")
        except (csv.Error, UnicodeError):
            deque(rows.read_rows(self.path), maxlen=0)  # says where the fault is
            raise
        return records

    def _row_blocks(self) -> Iterator[Block]:
        size, source = _LEAST_ROWS, rows.read_rows(self.path)
        number = 1
        while taken := list(islice(source, size)):
            columns = [[row.values.get(name) for row in taken] for name in self._names]
            numbers: Sequence[int] = range(number, number + len(taken))
            if self._ending in _BY_LINE:
                numbers = [int(row.where.rpartition(" ")[2]) for row in taken]
            yield self._block(columns, numbers)
            number += len(taken)
            size = _block_rows(columns[self._names.index(self._used[0])])

    def _block(self, columns: Sequence[Sequence[Any]], numbers: Sequence[int]) -> Block:
        values = dict(zip(self._names, columns, strict=True))
        text, label = joined([values.pop(name) for name in self._used]), values.pop(self._label)
        self.has_sets |= bool(label) and isinstance(label[0], list)
        if self.has_sets:
            label = [set_name(self._reader, one, f"{self.place} {n}") for one, n in zip(label, numbers, strict=True)]
        splits = None if self._split is None else values.pop(self._split)
        return Block(text, label, splits, numbers, values)


class LoadedTable:
    """What a source has put into memory."""

    def __init__(self, dataset: RawDataset) -> None:
        self.name, self.columns, self.notes = dataset.source, dataset.columns, dataset.notes
        self.label_order = dataset.label_order
        self.n_dropped, self.n_repeated = dataset.rows_dropped, dataset.duplicates_removed
        self.place = f"{dataset.source}, row"
        self._dataset = dataset
        self.has_sets = dataset.multi_label

    def blocks(self) -> Iterator[Block]:
        """All rows, from the start."""
        data = self._dataset
        start = 0
        while start < len(data.texts):
            size = _block_rows(joined(side_by_side(data.texts[start : start + _LEAST_ROWS])))
            part = slice(start, start + size)
            splits = None if data.split is None else data.split[part]
            texts = joined(side_by_side(data.texts[part]))
            labels: Sequence[Any] = data.labels[part]
            if self.has_sets:
                labels = [_SET.join(LABEL_SETS.names_of(label)) or NO_LABEL for label in data.labels[part]]
            yield Block(texts, labels, splits, range(start + 1, start + 1 + len(texts)))
            start += size

    def texts(self, wanted: NDArray[np.int64]) -> Iterator[Any]:
        """The texts of some rows."""
        return iter(joined(side_by_side([self._dataset.texts[row] for row in wanted.tolist()])))


def joined(columns: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """One text a row: both texts of a pair, one after the other; none where one of them is none."""
    if len(columns) == 1:
        return columns[0]

    def one(both: tuple[Any, ...]) -> Any:  # noqa: ANN401 - whatever a file holds
        if any(part is not None and not isinstance(part, str) for part in both):
            return next(part for part in both if part is not None and not isinstance(part, str))
        return "" if any(not part or part.isspace() for part in both) else BETWEEN.join(both)

    return [one(both) for both in zip(*columns, strict=True)]


def _picked(pieces: Iterable[Sequence[Any]], wanted: NDArray[np.int64]) -> Iterator[Any]:
    """Some of the texts that come in pieces of any size."""
    first = 0
    for texts in pieces:
        here = wanted[np.searchsorted(wanted, first) : np.searchsorted(wanted, first + len(texts))]
        yield from (texts[row - first] for row in here.tolist())
        first += len(texts)
        if first > wanted[-1]:
            break


def set_name(reader: LabelReader, value: object, where: str) -> str | None:
    """A name for a set of labels, by which equal ones are counted; `set_of` gives the set again."""
    found = reader.read(value, where)
    return None if found is None else _SET.join(LABEL_SETS.names_of(found)) or NO_LABEL


def set_of(name: str) -> Label:
    """The set of labels of such a name."""
    return () if name == NO_LABEL else tuple(name.split(_SET))


def _block_rows(texts: Sequence[Any]) -> int:
    """How many rows the next block may have, by the length of the first of these texts."""
    texts = texts[:_LEAST_ROWS]
    length = sum(len(text) for text in texts if isinstance(text, str)) / len(texts)
    return int(min(_MOST_ROWS, max(_LEAST_ROWS, _BLOCK_CHARACTERS / max(1.0, length))))
