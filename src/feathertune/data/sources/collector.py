"""Texts with label names as a source gives them, and the checks that every source's rows go through.

Rows stream in one by one and only their text is kept, so memory stays near one copy of the texts. Not for
class indices or splits: see `feathertune.data.splitting.splits`.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from feathertune.data.reading.columns import PAIR_COLUMNS, TEXT_COLUMNS, Columns, find_columns
from feathertune.data.reading.labels import Label, LabelReader, TaskChoice, are_numbers, are_sets
from feathertune.data.reading.texts import Pair, Text, are_pairs
from feathertune.errors import ConfigError, DataError

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
_SPLIT_NAMES: dict[str, str] = {name: name for name in SPLITS} | dict.fromkeys(("valid", "val", "dev"), "validation")
_SHOWN_ROWS = 3


@dataclass(frozen=True)
class RawDataset:
    """All rows of a source.

    Attributes:
        texts: ``(N,)``; all of them pairs, or none.
        labels: Label names, ``(N,)``; sets of them where a text may have several; or numbers: all of one kind.
        split: ``train``, ``validation`` or ``test``, ``(N,)``; None where the source has no splits.
        label_order: Every label in the order that the source states; None where it states none.
        fingerprint: SHA-256 over texts, labels and splits: of the content, not of its path.
        duplicates_removed: Rows left out because their text stood there already.
        rows_dropped: Rows left out because they were invalid and this was asked for.
        notes: What was changed or left out, in plain words.
        columns: None where the source has none.
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

    @property
    def multi_label(self) -> bool:
        """Whether a text may have several labels."""
        return are_sets(self.labels)

    @property
    def numbers(self) -> bool:
        """Whether the label is a number."""
        return are_numbers(self.labels)

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Where the texts were found: two columns for pairs; the usual names where the source has no columns."""
        if self.columns is not None:
            return self.columns.texts
        return PAIR_COLUMNS[0] if are_pairs(self.texts) else TEXT_COLUMNS[:1]


@dataclass(frozen=True)
class ReadOptions:
    """What a person may say about a source: its columns, and whether invalid rows are left out.

    Attributes:
        label_separator: Stands between the labels of a text that may have several.
        task: Whether it may, or whether the label is a number; ``auto`` looks at the first row, where a list is a set
            of labels, and at the end at all of them.
        text_column: One column, or two with a comma between them for pairs.
        usual_texts: Where texts of this kind stood before: looked for first, and their number is that of the columns.
            Empty where either kind will do.
    """

    text_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    drop_invalid: bool = False
    usual_texts: tuple[str, ...] = ()
    label_separator: str | None = None
    task: TaskChoice = "auto"

    @property
    def labels(self) -> LabelReader:
        """What reads the labels of the rows."""
        return LabelReader(self.label_separator, self.task)

    def columns(self, names: Sequence[str], source: str) -> Columns:
        """The columns to read, of all that there are; see `find_columns`.

        Raises:
            DataError: If one is missing, or two are one.
        """
        return find_columns(
            names, source, text_column=self.text_column, label_column=self.label_column, usual_texts=self.usual_texts
        )

    def refuse_columns(self, source: str) -> None:
        """Say that column options do nothing here, instead of ignoring them.

        Raises:
            ConfigError: If one is set.
        """
        for key in ("text_column", "label_column", "split_column", "label_separator"):
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
        labels: Reads the labels, such as `ReadOptions.labels`; by default as the task ``auto`` says.
    """

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
        """Take one row.

        Args:
            text: As the source gives it; two of them for a pair.
            label: Likewise; whole numbers and booleans become their decimal and ``true`` or ``false``; a list is a set
                of labels.
            split: One of `SPLITS`, or None where the source has none.
            where: The row, for messages.

        Raises:
            DataError: If the text or label has a type that cannot be one.
        """
        given = text if isinstance(text, tuple) else (text,)
        strings = [_string(part, where) for part in given]
        found = self._reader.read(label, where)
        if any(not part or part.isspace() for part in strings):
            return self._refuse("with an empty text", where)
        if found is None:
            return self._refuse("without a label", where)
        if isinstance(found, float) and math.isnan(found):
            return self._refuse("whose label is no finite number", f"{where}: {label!r:.40}")
        # Names of a set with their lengths: no name can look like two.
        name = "".join(f"{len(part)}:{part}" for part in found) if isinstance(found, tuple) else str(found)
        row: Text = Pair(*strings) if len(strings) == 2 else strings[0]
        lengths = "+".join(str(len(part)) for part in strings)
        try:
            content = f"{lengths} {len(name)} {split}\n{name}{''.join(strings)}".encode()
        except UnicodeEncodeError:
            return self._refuse("with half a surrogate pair (a broken character)", where)
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
        """Close the collection.

        Args:
            label_order: Every label in the source's own order; then they are names, whatever they look like.
            notes: What the source did to its texts.
            columns: Where the rows came from.

        Raises:
            DataError: If rows were invalid and are not to be left out, nothing is left, or some labels are numbers and
                others are not.
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
        if columns is not None and columns.text_pair is not None:
            notes = (f"Each row is a pair of texts, of the columns {columns.text} and {columns.text_pair}.", *notes)
        labels = self._as_numbers() if label_order is None else self._labels
        if are_sets(labels):
            none = sum(not label for label in labels)
            notes = (f"A text may have several labels; {none:,} of {len(labels):,} have none.", *notes)
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
            notes=notes,
            columns=columns,
        )

    def _as_numbers(self) -> list[Label]:
        """The labels, as numbers where they turn out to be such."""
        numbers = self._reader.as_numbers(self._names)
        return self._labels if numbers is None else [numbers[str(label)] for label in self._labels]


def _string(part: object, where: str) -> str:
    """A text as a string; empty where there is none.

    Raises:
        DataError: If it is of another type.
    """
    if part is not None and not isinstance(part, str):
        raise DataError(f"{where}: the text is of type {type(part).__name__}. Expected a string.")
    return part or ""


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
