"""One pass over all rows of one or two sources that keeps a few numbers per row, but no text.

A row takes 18 bytes, and 48 more to search for near-duplicates (`feathertune.quality.near_duplicates`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feathertune.data.sources.collector import SPLITS, split_name, string_of
from feathertune.errors import DataError, is_whole
from feathertune.quality.near_duplicates import Sketches, sketches_of
from feathertune.quality.tables import Table, TableRow, set_of
from feathertune.quality.text_checks import TextChecks
from feathertune.quality.words import words_of
from feathertune.tasks.labels.values import label_name, number_of

# Reasons for unusable rows, by `Scan.problems`; 0 means usable. Rows that no study reads are ignored: with a separate
# test source, the first source's test rows and the test source's other rows.
PROBLEMS = ("", "with an empty text", "without a label", "with half a surrogate pair", "with a null byte", "")
EMPTY, UNLABELLED, BROKEN, NULL, IGNORED = range(1, 6)
NO_SPLIT = -1
TRAIN, VALIDATION, TEST = range(3)
# Limits of the sample for token statistics and label errors.
_SAMPLE_ROWS, _SAMPLE_CHARACTERS = 20_000, 40_000_000


@dataclass
class Scan:
    """Result of one pass. Rows of all tables are numbered from 0; arrays are ``(N,)``."""

    tables: tuple[Table, ...]
    starts: list[int] = field(default_factory=lambda: [0])  # first row of each table, and the total number of rows
    hashes: NDArray[np.int64] = field(init=False)  # of the texts, valid in this process only
    labels: NDArray[np.int32] = field(init=False)  # index into `names`, -1 without a label
    splits: NDArray[np.int8] = field(init=False)  # index into `SPLITS`, or `NO_SPLIT`
    problems: NDArray[np.uint8] = field(init=False)  # index into `PROBLEMS`
    numbers: NDArray[np.int32] = field(init=False)  # row numbers for messages
    names: list[str] = field(default_factory=list)
    sketches: list[Sketches] = field(default_factory=list)
    checks: TextChecks = field(default_factory=TextChecks)
    repaired_hashes: dict[int, int] = field(default_factory=dict)  # by row, for texts that can be repaired
    n_characters: int = 0  # of all usable texts
    _values: dict[str, set[str]] = field(default_factory=dict)
    _known: dict[str, int] = field(default_factory=dict)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """True for usable rows, ``(N,)``."""
        return np.asarray(self.problems == 0)

    @property
    def unusable(self) -> NDArray[np.int64]:
        """Rows that a study would reject, ``(U,)``."""
        return np.flatnonzero((self.problems > 0) & (self.problems < IGNORED))

    @property
    def n_dropped(self) -> int:
        """Number of unusable rows, including those that the sources skipped."""
        return len(self.unusable) + sum(table.n_dropped for table in self.tables)

    @property
    def constant(self) -> dict[str, str]:
        """Unread columns with a single value, and that value."""
        found = {name: next(iter(values)) for name, values in self._values.items() if len(values) == 1}
        return {name: value.encode(errors="replace").decode() for name, value in found.items()}

    def table(self, row: int) -> Table:
        """Return a row's table."""
        return self.tables[int(np.searchsorted(self.starts, row, side="right")) - 1]

    def label(self, row: int) -> str | None:
        """Return the name of a row's label."""
        return self.names[self.labels[row]] if self.labels[row] >= 0 else None

    def label_counts(self) -> dict[str, int]:
        """Return the number of usable rows by label; a set counts for each of its labels."""
        found: Counter[str] = Counter()
        for name, n in zip(self.names, np.bincount(self.labels[self.usable], minlength=len(self.names)), strict=True):
            found.update(dict.fromkeys(self.parts(name), int(n)))
        return found

    def parts(self, name: str) -> tuple[str, ...]:
        """Return the labels that an entry of `names` stands for."""
        return set_of(name) if self.tables[0].has_sets else (name,)

    def sample(self, seed: int) -> NDArray[np.int64]:
        """Draw a sample of usable rows, ascending, ``(S,)``; fewer if texts are long."""
        rows = np.flatnonzero(self.usable)
        most = min(_SAMPLE_ROWS, max(1, _SAMPLE_CHARACTERS * len(rows) // max(1, self.n_characters)))
        return rows if most >= len(rows) else np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))

    def texts(self, rows: NDArray[np.int64]) -> Iterator[tuple[int, str]]:
        """Read the tables again and yield the wanted rows, ascending, with their texts."""
        rows = np.sort(rows)
        for table, (first, end) in zip(self.tables, zip(self.starts[:-1], self.starts[1:], strict=True), strict=True):
            wanted = rows[(rows >= first) & (rows < end)]
            yield from zip(wanted.tolist(), table.texts(wanted - first), strict=True)

    def take(
        self, table: Table, block: Sequence[TableRow], first: int, *, tested_elsewhere: bool, only_test: bool
    ) -> tuple[NDArray[Any], ...]:
        """Process B rows of a table, starting at row `first`, and return their part of the arrays.

        With `tested_elsewhere`, the table's own test rows are ignored; with `only_test`, all its other rows.
        """
        numbers = np.array([row.number for row in block], np.int32)
        texts = [string_of(row.text, f"{table.place} {row.number}") for row in block]
        labels = np.array([self._label(row, table) for row in block], np.int32)
        splits = _splits(block, table, TEST if only_test else NO_SPLIT)
        problems = _problems(texts)
        problems[(problems == 0) & (labels < 0)] = UNLABELLED
        if tested_elsewhere or only_test:
            problems[(splits == TEST) != only_test] = IGNORED
        hashes = np.fromiter(map(hash, texts), np.int64, len(texts))
        for name, values in zip(table.other_columns, zip(*(row.others for row in block), strict=True), strict=False):
            seen = self._values.setdefault(name, set())
            if len(seen) < 2:
                seen.update("" if value is None else str(value) for value in values)
        usable = np.flatnonzero(problems == 0)
        kept = [texts[row] for row in usable.tolist()]
        self.n_characters += sum(map(len, kept))
        self.sketches.append(sketches_of(words_of(kept), usable + first))
        repaired = self.checks.add(kept, usable + first)
        for row in np.flatnonzero(problems == NULL).tolist():
            repaired |= self.checks.check(texts[row], row + first)
        self.repaired_hashes.update((row, hash(text)) for row, text in repaired.items())
        return hashes, labels, splits, problems, numbers

    def _label(self, row: TableRow, table: Table) -> int:
        label = row.label
        if isinstance(label, str) and label in self._known:
            return self._known[label]
        where = f"{table.place} {row.number}"
        try:
            name = label_name(label, where)
        except DataError:
            if number_of(label) is None:
                raise
            raise DataError(
                f"{where}: the label {label!r:.40} is a number, but inspect supports only classes. Pass another "
                "--label-column to check only the texts."
            ) from None
        if not is_whole(name):
            name = ""
        if name and name not in self._known:
            self._known[name] = len(self.names)
            self.names.append(name)
        found = self._known[name] if name else -1
        if isinstance(label, str):  # values of other types can be equal but different: 1 and True
            self._known[label] = found
        return found


def scan(tables: Sequence[Table]) -> Scan:
    """Read all rows of the source once, and of a test source its test split, or all rows if it has no splits.

    DataError if a file is broken, or a value has a type that cannot be a text, a label or a split.
    """
    seen, n = Scan(tuple(tables)), 0
    parts = [tuple(np.zeros(0, kind) for kind in (np.int64, np.int32, np.int8, np.uint8, np.int32))]
    for index, table in enumerate(tables):
        for block in table.blocks():
            parts.append(seen.take(table, block, n, tested_elsewhere=len(tables) > index + 1, only_test=index > 0))
            n += len(block)
        seen.starts.append(n)
    seen.checks.finish()
    columns = map(np.concatenate, zip(*parts, strict=True))
    seen.hashes, seen.labels, seen.splits, seen.problems, seen.numbers = columns
    return seen


def _problems(texts: list[str]) -> NDArray[np.uint8]:
    """Return each text's problem as an index into `PROBLEMS`, ``(B,)``."""
    problems = np.array([EMPTY if not text or text.isspace() else 0 for text in texts], np.uint8)
    joined = "".join(texts)
    if "\0" in joined:
        problems[[row for row, text in enumerate(texts) if "\0" in text]] = NULL
    if not joined.isascii():
        try:
            joined.encode()
        except UnicodeEncodeError:
            problems[[row for row, text in enumerate(texts) if any("\ud800" <= c <= "\udfff" for c in text)]] = BROKEN
    return problems


def _splits(block: Sequence[TableRow], table: Table, otherwise: int) -> NDArray[np.int8]:
    if not table.has_splits:
        return np.full(len(block), otherwise, np.int8)
    known: dict[Any, int] = {}
    for row in block:
        if not isinstance(row.split, str) or row.split not in known:
            known[row.split] = SPLITS.index(split_name(row.split, f"{table.place} {row.number}"))
    return np.array([known[row.split] for row in block], np.int8)
