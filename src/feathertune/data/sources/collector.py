"""Collect a source's texts and labels, and check every row as it streams in."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from feathertune.data.reading.columns import PAIR_COLUMNS, TEXT_COLUMNS, Columns, find_columns
from feathertune.data.reading.texts import Pair, Text, are_pairs, check_length
from feathertune.errors import ConfigError, DataError, shown
from feathertune.tasks.labels.classes import CLASS_LABELS
from feathertune.tasks.labels.kind import LabelKind
from feathertune.tasks.labels.reader import LabelReader
from feathertune.tasks.labels.values import LARGEST, Label, TaskChoice, unique_text

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
_SPLIT_NAMES: dict[str, str] = {name: name for name in SPLITS} | dict.fromkeys(("valid", "val", "dev"), "validation")
_SHOWN_ROWS = 3


@dataclass(frozen=True)
class RawDataset:
    """All rows of a source; either all texts are pairs or none is.

    Attributes:
        split: One of `SPLITS` for each row; None if the source has no splits.
        label_order: Every label in the source's own order; None if the source defines none.
        fingerprint: SHA-256 of texts, labels and splits, not of the path.
    """

    texts: Sequence[Text]
    labels: Sequence[Label]
    split: list[str] | None
    label_order: tuple[str, ...] | None
    source: str
    fingerprint: str
    duplicates_removed: int = 0
    rows_dropped: int = 0
    notes: tuple[str, ...] = ()
    columns: Columns | None = None
    kind: LabelKind = CLASS_LABELS

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The text columns, two for pairs; default names if the source has no columns."""
        if self.columns is not None:
            return self.columns.texts
        return PAIR_COLUMNS[0] if are_pairs(self.texts) else TEXT_COLUMNS[:1]


@dataclass(frozen=True)
class ReadOptions:
    """The ``data`` settings for reading a source; a bundle's text columns (`usual_texts`) are tried first."""

    text_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    drop_invalid: bool = False
    usual_texts: tuple[str, ...] = ()
    label_separator: str | None = None
    task: TaskChoice = "auto"

    @property
    def labels(self) -> LabelReader:
        """A new reader of labels with these settings."""
        return LabelReader(self.label_separator, self.task)

    def columns(self, names: Sequence[str], source: str) -> Columns:
        """Return the columns to read; see `find_columns`."""
        return find_columns(
            names, source, text_column=self.text_column, label_column=self.label_column, usual_texts=self.usual_texts
        )

    def refuse_columns(self, source: str) -> None:
        """Raise a `ConfigError` if a column is set, because this source has none."""
        for key in ("text_column", "label_column", "split_column", "label_separator"):
            if getattr(self, key) is not None:
                raise ConfigError(f"{source} has no columns to choose from. Leave out data.{key}.")


@dataclass(frozen=True)
class Source:
    """A kind of source: the prefix before the colon, and the function that loads the name after it."""

    name: str
    load: Callable[[str, ReadOptions], RawDataset]


class Collector:
    """Checks rows as they arrive, keeps texts and labels, and counts the invalid and duplicate rows left out."""

    def __init__(
        self, source: str, *, drop_invalid: bool, drop_duplicates: bool = False, labels: LabelReader | None = None
    ) -> None:
        self.source = source
        self._reader = labels or LabelReader()
        self._drop_invalid = drop_invalid
        self._seen: set[Text] | None = set() if drop_duplicates else None
        self._texts: list[Text] = []
        self._labels: list[Label] = []
        self._splits: list[str | None] = []
        self._names: dict[Label, Label] = {}
        self._digest = hashlib.sha256()
        self._problems: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}
        self._duplicates = 0

    def add(self, text: object, label: object, split: str | None, where: str) -> None:
        """Add one row, whose text is a string or a tuple of two; raise a `DataError` for a wrong type.

        Whole numbers and booleans become label names such as ``3`` and ``true``; a list becomes a set of labels.
        """
        given = text if isinstance(text, tuple) else (text,)
        strings = [string_of(part, where) for part in given]
        found = self._reader.read(label, where)
        if any(not part or part.isspace() for part in strings):
            return self._refuse("with an empty text", where)
        if found is None:
            return self._refuse("without a label", where)
        if isinstance(found, float) and not abs(found) <= LARGEST:
            problem = "not a finite number" if math.isnan(found) else f"a number beyond {LARGEST:g}"
            return self._refuse(f"whose label is {problem}", f"{where}: {label!r:.40}")
        name = unique_text(found)
        row: Text = Pair(*strings) if len(strings) == 2 else strings[0]
        lengths = "+".join(str(len(part)) for part in strings)
        try:
            content = f"{lengths} {len(name)} {split}\n{name}{''.join(strings)}".encode()
        except UnicodeEncodeError:
            return self._refuse("with a broken character (an unpaired surrogate)", where)
        if b"\0" in content:
            return self._refuse("with a null byte", where)
        if self._seen is not None:
            if row in self._seen:
                self._duplicates += 1
                return None
            self._seen.add(row)
        self._digest.update(content)
        self._texts.append(row)
        self._labels.append(self._names.setdefault(found, found))
        self._splits.append(split)
        return None

    def _refuse(self, problem: str, where: str) -> None:
        self._problems[problem] += 1
        if self._problems[problem] <= _SHOWN_ROWS:
            self._examples.setdefault(problem, []).append(where)

    def finish(
        self,
        *,
        label_order: tuple[str, ...] | None = None,
        notes: Iterable[str] = (),
        columns: Columns | None = None,
    ) -> RawDataset:
        """Return the collected rows; raise a `DataError` for no rows, refused rows, or numbers among class names."""
        dropped = self._problems.total()
        listed = "; ".join(
            f"{count:,} {problem} ({', '.join(self._examples[problem])}" + (", ...)" if count > _SHOWN_ROWS else ")")
            for problem, count in self._problems.items()
        )
        rows = f"{dropped:,} row{'s' if dropped > 1 else ''}"
        if dropped and not self._drop_invalid:
            raise DataError(
                f"{self.source}: {rows} cannot be used: {listed}. Correct the data, or pass "
                "--drop-invalid (data.drop_invalid: true) to leave such rows out."
            )
        if not self._texts:
            raise DataError(f"{self.source} has no usable rows{f': {listed}' if listed else ''}.")
        notes = (*notes, f"{rows} left out: {listed}.") if dropped else tuple(notes)
        if columns is not None and columns.text_pair is not None:
            notes = (f"Each row is a pair of texts, from the columns {columns.text} and {columns.text_pair}.", *notes)
        numbers = self._reader.as_numbers(self._names) if label_order is None else None
        labels = self._labels if numbers is None else [numbers[str(label)] for label in self._labels]
        kind = self._reader.kind
        splits = [split for split in self._splits if split is not None]
        return RawDataset(
            texts=self._texts,
            labels=labels,
            split=splits if len(splits) == len(self._texts) else None,
            label_order=label_order,
            source=self.source,
            fingerprint=self._digest.hexdigest(),
            duplicates_removed=self._duplicates,
            rows_dropped=dropped,
            notes=(*kind.notes(labels), *notes),
            columns=columns,
            kind=kind,
        )


def string_of(part: object, where: str) -> str:
    """Return a text, empty if it is missing; raise a `DataError` for any other type."""
    if part is not None and not isinstance(part, str):
        raise DataError(f"{where}: the text is of type {type(part).__name__}. Expected a string.")
    check_length(part or "", where)
    return part or ""


def split_name(value: object, where: str) -> str:
    """Return ``train``, ``validation`` or ``test`` for any usual spelling; raise a `DataError` for any other word."""
    known = as_split(value) if isinstance(value, str) else None
    if known is None:
        raise DataError(
            f"{where}: the split is {shown(repr(value))}. Expected train, validation (valid, val, dev) or test."
        )
    return known


def as_split(name: str) -> str | None:
    """Return one of `SPLITS` for any usual spelling; None for any other word."""
    return _SPLIT_NAMES.get(name.strip().lower())
