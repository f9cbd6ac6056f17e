"""One pass over all rows of one or two sources: of each a few numbers are kept, whatever the length of its text.

Memory grows by some 14 bytes a row, and by 36 more up to four million rows (`feathertune.quality.near`). Texts are kept
of a sample alone. Words and characters are looked at by `feathertune.quality.text_checks`. Not for saying what is
wrong: that follows from these numbers in `feathertune.quality.findings`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feathertune.data.sources.collector import SPLITS, split_name
from feathertune.errors import DataError
from feathertune.quality.near import Sketches
from feathertune.quality.oddities import Oddities
from feathertune.quality.sample import Sample
from feathertune.quality.tables import Block, Table
from feathertune.quality.text_checks import Repaired, looker
from feathertune.tasks.labels.values import label_name, number_of

# Why a row cannot be used, by `Scan.problems`; 0 where it can. Ignored are rows that no study would ask for: test
# rows beside a source of test rows, and that one's other rows.
PROBLEMS = ("", "with an empty text", "without a label", "with half a surrogate pair", "with a null byte", "")
EMPTY, UNLABELLED, BROKEN, NULL, IGNORED = range(1, 6)
NO_SPLIT = -1
TRAIN, VALIDATION, TEST = range(3)


@dataclass
class Scan:
    """What one pass has found; row ``n`` is the n-th of all tables, counted from 0.

    Attributes:
        tables: In the order of their rows.
        starts: The first row of each table, and the number of all rows at the end.
        hashes: Of each text, ``(N,)`` int64; the same text has the same one, in this process.
        labels: Into `names`, -1 where there is none, ``(N,)`` int32.
        splits: Into `feathertune.data.sources.collector.SPLITS`, or `NO_SPLIT`, ``(N,)`` int8.
        problems: Into `PROBLEMS`, ``(N,)`` uint8.
        repaired_hashes: By row whose text can be repaired, the hash of that; of an empty text where nothing is left.
        constant: By column that nobody reads: its one value, as far as it is the same in all rows.
        n_marked: Texts that hold markup.
    """

    tables: tuple[Table, ...]
    starts: list[int]
    hashes: NDArray[np.int64]
    labels: NDArray[np.int32]
    splits: NDArray[np.int8]
    problems: NDArray[np.uint8]
    names: list[str]
    sketches: Sketches
    oddities: Oddities
    repaired_hashes: dict[int, int]
    sample: Sample
    constant: dict[str, str]
    n_marked: int
    _numbers: list[NDArray[np.int64] | None]

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Whether a row can be used, ``(N,)``."""
        return np.asarray(self.problems == 0)

    @property
    def unusable(self) -> NDArray[np.int64]:
        """The rows that a study would refuse, ``(U,)``."""
        return np.flatnonzero((self.problems > 0) & (self.problems < IGNORED))

    def place(self, row: int) -> tuple[int, int]:
        """The table of a row, and the row's number there as messages say it."""
        table = int(np.searchsorted(self.starts, row, side="right")) - 1
        numbers, inside = self._numbers[table], row - self.starts[table]
        return table, inside + 1 if numbers is None else int(numbers[inside])

    def texts(self, rows: NDArray[np.int64]) -> Iterator[tuple[int, str]]:
        """Read again: rows that are wanted, rising, each with its text; no further than the last of them."""
        rows = rows[np.argsort(rows)] if len(rows) > 1 else rows
        for table, (first, end) in enumerate(zip(self.starts[:-1], self.starts[1:], strict=True)):
            wanted = rows[(rows >= first) & (rows < end)]
            if len(wanted):
                for row, text in zip(wanted.tolist(), self.tables[table].texts(wanted - first), strict=True):
                    yield row, str(text or "")


@dataclass
class _Columns:
    """The columns of `Scan`, block by block."""

    hashes: list[NDArray[np.int64]] = field(default_factory=list)
    labels: list[NDArray[np.int32]] = field(default_factory=list)
    splits: list[NDArray[np.int8]] = field(default_factory=list)
    problems: list[NDArray[np.uint8]] = field(default_factory=list)


def scan(tables: Sequence[Table], *, seed: int, beside: bool = False, check: Callable[[], None] | None = None) -> Scan:
    """Read all rows once.

    Args:
        tables: The source, and maybe one of test rows: its test split, or all of it where it has none.
        seed: Of the sample.
        beside: Look at the texts in a second process; pays for files of some fifty megabytes and more.
        check: Called after each block; an error that it raises ends the pass.

    Raises:
        DataError: If a file is broken, or a value has a type that cannot be a text, a label or a split.
    """
    reader = _Reader(seed)
    starts, numbers = [0], []
    with looker(beside=beside) as other:
        for index, table in enumerate(tables):
            of_table: list[Sequence[int]] = []
            for block in table.blocks():
                kept = reader.take(table, block, tested_elsewhere=len(tables) > index + 1, only_test=index > 0)
                reader.keep_repaired(other.add(*kept))
                of_table.append(block.numbers)
                if check is not None:
                    check()
            starts.append(reader.n)
            counted = all(isinstance(part, range) for part in of_table)
            numbers.append(None if counted else np.concatenate([np.asarray(part, np.int64) for part in of_table]))
        look, rest = other.finish()
    reader.keep_repaired(rest)
    look.oddities.finish()
    columns = reader.columns
    return Scan(
        tables=tuple(tables),
        starts=starts,
        hashes=np.concatenate([np.zeros(0, np.int64), *columns.hashes]),
        labels=np.concatenate([np.zeros(0, np.int32), *columns.labels]),
        splits=np.concatenate([np.zeros(0, np.int8), *columns.splits]),
        problems=np.concatenate([np.zeros(0, np.uint8), *columns.problems]),
        names=list(reader.names),
        sketches=look.sketches,
        oddities=look.oddities,
        repaired_hashes=reader.repaired_hashes,
        sample=reader.sample,
        constant={name: next(iter(values)) for name, values in reader.values.items() if len(values) == 1},
        n_marked=look.n_marked,
        _numbers=numbers,
    )


class _Reader:
    """Takes blocks and keeps what `Scan` holds."""

    def __init__(self, seed: int) -> None:
        self.n = 0
        self.columns = _Columns()
        self.names: dict[str, int] = {}
        self.values: dict[str, set[str]] = {}
        self.sample = Sample(seed)
        self.repaired_hashes: dict[int, int] = {}
        self._known: dict[Any, int] = {}  # what a source gives as a label, to its number

    def take(
        self, table: Table, block: Block, *, tested_elsewhere: bool, only_test: bool
    ) -> tuple[list[str], NDArray[np.int64], Repaired]:
        """Keep the numbers of a block; returns its usable texts, their rows, and rows with a null byte.

        Args:
            table: Where it is from.
            block: Its rows.
            tested_elsewhere: Whether its own test rows are not used.
            only_test: Whether only those are, or all where it has no splits.
        """
        size = len(block.texts)
        texts = _checked(table, block)
        labels = self._labels(table, block)
        splits = _splits(table, block, only_test=only_test)
        problems = _problems(texts)
        problems[(problems == 0) & (labels < 0)] = UNLABELLED
        if tested_elsewhere or only_test:
            problems[(splits == TEST) != only_test] = IGNORED
        self._find_constants(block)
        usable = np.flatnonzero(problems == 0)
        kept = texts if len(usable) == size else [texts[row] for row in usable.tolist()]
        self.columns.hashes.append(np.fromiter(map(hash, texts), np.int64, size))
        self.columns.labels.append(labels)
        self.columns.splits.append(splits)
        self.columns.problems.append(problems)
        rows = usable + self.n
        broken = [(self.n + row, texts[row]) for row in np.flatnonzero(problems == NULL).tolist()]
        self.n += size
        self.sample.add(kept, rows)
        return kept, rows, broken

    def keep_repaired(self, repaired: Repaired) -> None:
        """Keep the hashes of repaired texts; a hash means something in this process alone."""
        self.repaired_hashes.update((row, hash(text)) for row, text in repaired)

    def _labels(self, table: Table, block: Block) -> NDArray[np.int32]:
        known = self._known
        try:
            return np.fromiter(map(known.__getitem__, block.labels), np.int32, len(block.labels))
        except (KeyError, TypeError):  # one that was not met before, or one that cannot be a key
            pairs = zip(block.labels, block.numbers, strict=True)
            return np.array([self._label(table, label, number) for label, number in pairs], np.int32)

    def _label(self, table: Table, label: Any, number: int) -> int:  # noqa: ANN401 - whatever a file holds
        where = f"{table.place} {number}"
        try:
            name = label_name(label, where)
        except DataError:
            if number_of(label) is None:
                raise
            raise DataError(
                f"{where}: the label is {label!r:.40}, a number, and inspect looks at classes only. To look at the "
                "texts alone, give another --label-column."
            ) from None
        found = self.names.setdefault(name, len(self.names)) if name else -1
        if isinstance(label, str):  # of other types some are equal and not the same: 1 and True
            self._known[label] = found
        return found

    def _find_constants(self, block: Block) -> None:
        for name, values in block.others.items():
            seen = self.values.setdefault(name, set())
            if len(seen) < 2:
                seen.update("" if value is None else str(value) for value in values)


def _checked(table: Table, block: Block) -> list[str]:
    """The texts, an empty one where there is none.

    Raises:
        DataError: If one is of another type.
    """
    if set(map(type, block.texts)) == {str}:
        return list(block.texts)
    for text, number in zip(block.texts, block.numbers, strict=True):
        if text is not None and not isinstance(text, str):
            raise DataError(f"{table.place} {number}: the text is of type {type(text).__name__}. Expected a string.")
    return [text or "" for text in block.texts]


def _problems(texts: list[str]) -> NDArray[np.uint8]:
    """Why a text cannot be used."""
    problems = np.zeros(len(texts), np.uint8)
    empty = [row for row, text in enumerate(texts) if not text or text.isspace()]
    problems[empty] = EMPTY
    joined = "".join(texts)
    if "\0" in joined:
        problems[[row for row, text in enumerate(texts) if "\0" in text]] = NULL
    if not joined.isascii():
        try:
            joined.encode()
        except UnicodeEncodeError:
            problems[[row for row, text in enumerate(texts) if any("\ud800" <= c <= "\udfff" for c in text)]] = BROKEN
    return problems


def _splits(table: Table, block: Block, *, only_test: bool) -> NDArray[np.int8]:
    size = len(block.texts)
    if block.splits is None:
        return np.full(size, TEST if only_test else NO_SPLIT, np.int8)
    known: dict[Any, int] = {}
    for value, number in zip(block.splits, block.numbers, strict=True):
        if value not in known:
            known[value] = SPLITS.index(split_name(value, f"{table.place} {number}"))
    return np.fromiter((known[value] for value in block.splits), np.int8, size)
