"""Texts with label names as a source gives them, and the checks that every source's rows go through.

Rows stream in one by one and only their text is kept, so memory stays near one copy of the texts. Not for
class indices or splits: see `feathertune.data.splits`.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from feathertune.errors import ConfigError, DataError, nearest

TEXT_COLUMNS = ("text", "sentence", "review", "content")
LABEL_COLUMNS = ("label", "labels", "class", "sentiment")
SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
_SPLIT_NAMES: dict[str, str] = {name: name for name in SPLITS} | dict.fromkeys(("valid", "val", "dev"), "validation")
_SHOWN_ROWS = 3


@dataclass(frozen=True)
class Columns:
    """Where a source's texts and labels were found, and the columns that were not read."""

    text: str
    label: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class RawDataset:
    """All rows of a source.

    Attributes:
        texts: ``(N,)``.
        labels: Label names, ``(N,)``.
        split: ``train``, ``validation`` or ``test``, ``(N,)``; None where the source has no splits.
        label_order: Every label in the order that the source states; None where it states none.
        fingerprint: SHA-256 over texts, labels and splits: of the content, not of its path.
        duplicates_removed: Rows left out because their text stood there already.
        rows_dropped: Rows left out because they were invalid and this was asked for.
        notes: What was changed or left out, in plain words.
        columns: None where the source has none.
    """

    texts: list[str]
    labels: list[str]
    split: list[str] | None
    label_order: tuple[str, ...] | None
    source: str
    fingerprint: str
    duplicates_removed: int = 0
    rows_dropped: int = 0
    notes: tuple[str, ...] = ()
    columns: Columns | None = None


@dataclass(frozen=True)
class ReadOptions:
    """What a person may say about a source: its columns, and whether invalid rows are left out."""

    text_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    drop_invalid: bool = False

    def refuse_columns(self, source: str) -> None:
        """Say that column options do nothing here, instead of ignoring them.

        Raises:
            ConfigError: If one is set.
        """
        for key in ("text_column", "label_column", "split_column"):
            if getattr(self, key) is not None:
                raise ConfigError(f"{source} has no columns to choose from. Leave out data.{key}.")


@dataclass(frozen=True)
class Source:
    """A kind of source.

    Here, not beside the list of them, so that another package can make one without loading the list, which loads it.

    Attributes:
        name: The word before the colon.
        load: Reads what stands after it.
    """

    name: str
    load: Callable[[str, ReadOptions], RawDataset]


class Collector:
    """Checks rows as they come and keeps texts and labels.

    Args:
        source: The name that the person gave.
        drop_invalid: Leave out rows without a usable text or label, and count them.
        drop_duplicates: Leave out rows whose text stood there already, and count them.
    """

    def __init__(self, source: str, *, drop_invalid: bool, drop_duplicates: bool = False) -> None:
        self.source = source
        self._drop_invalid = drop_invalid
        self._seen: set[str] | None = set() if drop_duplicates else None
        self._texts: list[str] = []
        self._labels: list[str] = []
        self._splits: list[str | None] = []
        self._names: dict[str, str] = {}
        self._digest = hashlib.sha256()
        self._problems: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}
        self._duplicates = 0

    def add(self, text: object, label: object, split: str | None, where: str) -> None:
        """Take one row.

        Args:
            text: As the source gives it.
            label: Likewise; whole numbers and booleans become their decimal and ``true`` or ``false``.
            split: One of `SPLITS`, or None where the source has none.
            where: The row, for messages.

        Raises:
            DataError: If the text or label has a type that cannot be one.
        """
        if text is not None and not isinstance(text, str):
            raise DataError(f"{where}: the text is of type {type(text).__name__}. Expected a string.")
        name = label_name(label, where)
        if not text or text.isspace():
            return self._refuse("with an empty text", where)
        if not name:
            return self._refuse("without a label", where)
        try:
            content = f"{len(text)} {len(name)} {split}\n{name}{text}".encode()
        except UnicodeEncodeError:
            return self._refuse("with half a surrogate pair (a broken character)", where)
        if b"\0" in content:
            return self._refuse("with a null byte", where)
        if self._seen is not None:
            if text in self._seen:
                self._duplicates += 1
                return None
            self._seen.add(text)
        self._digest.update(content)
        self._texts.append(text)
        self._labels.append(self._names.setdefault(name, name))
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
        """Close the collection.

        Args:
            label_order: Every label in the source's own order.
            notes: What the source did to its texts.
            columns: Where the rows came from.

        Raises:
            DataError: If rows were invalid and are not to be left out, or nothing is left.
        """
        dropped = self._problems.total()
        listed = "; ".join(
            f"{count:,} {problem} ({', '.join(self._examples[problem])}" + (", ...)" if count > _SHOWN_ROWS else ")")
            for problem, count in self._problems.items()
        )
        rows = f"{dropped:,} row{'s' if dropped > 1 else ''}"
        if dropped and not self._drop_invalid:
            raise DataError(
                f"{self.source}: {rows} cannot be used: {listed}. Correct the data, or leave such rows out "
                "with --drop-invalid (data.drop_invalid: true)."
            )
        if not self._texts:
            raise DataError(f"{self.source} holds no usable row{f': {listed}' if listed else ''}.")
        notes = (*notes, f"{rows} left out: {listed}.") if dropped else tuple(notes)
        splits = [split for split in self._splits if split is not None]
        return RawDataset(
            texts=self._texts,
            labels=self._labels,
            split=splits if len(splits) == len(self._texts) else None,
            label_order=label_order,
            source=self.source,
            fingerprint=self._digest.hexdigest(),
            duplicates_removed=self._duplicates,
            rows_dropped=dropped,
            notes=notes,
            columns=columns,
        )


def label_name(label: object, where: str) -> str:
    """A label's name; empty where there is none.

    Args:
        label: As a source gives it.
        where: The row, for messages.

    Raises:
        DataError: If it is of a type that cannot be a label.
    """
    if isinstance(label, str):
        return label.strip()
    if isinstance(label, bool):
        return "true" if label else "false"
    if isinstance(label, int):
        return str(label)
    if label is None or (isinstance(label, float) and math.isnan(label)):
        return ""
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    if isinstance(label, Decimal) and label == int(label):
        return str(int(label))
    raise DataError(
        f"{where}: the label is {label!r:.60} of type {type(label).__name__}. "
        "Expected a string, a whole number or a boolean."
    )


def split_name(value: object, where: str) -> str:
    """``train``, ``validation`` or ``test`` for any usual spelling of it.

    Raises:
        DataError: If it is none of them.
    """
    known = as_split(value) if isinstance(value, str) else None
    if known is None:
        raise DataError(f"{where}: the split is {value!r}. Expected train, validation (valid, val, dev) or test.")
    return known


def as_split(name: str) -> str | None:
    """One of `SPLITS` for any usual spelling of it; None for another word."""
    return _SPLIT_NAMES.get(name.strip().lower())


def find_columns(names: Sequence[str], options: ReadOptions, source: str) -> tuple[str, str]:
    """The text and the label column.

    Args:
        names: All columns.
        options: May name either.
        source: For messages.

    Raises:
        DataError: If either is missing, or both are one.
    """
    text = find_column(names, options.text_column, TEXT_COLUMNS, "text", source)
    label = find_column(names, options.label_column, LABEL_COLUMNS, "label", source)
    if text == label:
        raise DataError(
            f"{source}: the text column and the label column are both '{text}'. Name two different ones "
            "(--text-column, --label-column)."
        )
    return text, label


def find_column(names: Sequence[str], asked: str | None, usual: Sequence[str], kind: str, source: str) -> str:
    """A column by the name that was asked for, else by its usual names, whatever their case.

    Raises:
        DataError: If there is none; the message lists what there is.
    """
    folded: dict[str, str] = {}
    for name in names:
        folded.setdefault(name.strip().lower(), name)
    if asked is not None:
        if asked in names:
            return asked
        if asked.strip().lower() in folded:
            return folded[asked.strip().lower()]
        raise DataError(f"{source} has no column '{asked}'.{nearest(asked, names)}")
    for name in usual:
        if name in folded:
            return folded[name]
    hint = ""
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        hint = " There is one column only: is the file separated by another character than its ending says?"
    raise DataError(
        f"{source} has no {kind} column (looked for {', '.join(usual)}).{nearest(usual[0], names)}{hint} "
        f"Name it with --{kind}-column (data.{kind}_column)."
    )
