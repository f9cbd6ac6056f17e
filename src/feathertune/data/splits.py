"""Train, validation and test rows: stratified, seeded, and without a text of a later split in an earlier one.

The test rows are set apart first, then the validation rows, which never come from the test rows; the training rows
are cut down last. For one seed, a smaller `train_size` changes no test row. Not for cross-validation.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feathertune.data.raw import SPLITS, RawDataset
from feathertune.errors import ConfigError, DataError

Indices = NDArray[np.int64]

_TEST_SHARE = 0.2
_VALIDATION_SHARE = 0.1
_VALIDATION_ROWS = 200
_VALIDATION_MOST = 0.25
_SHOWN = 10
_WHOLE = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True)
class Split:
    """Texts and class indices, ``(N,)`` each; labels are int64 and point into `DataSplits.labels`."""

    texts: list[str]
    labels: Indices


@dataclass(frozen=True)
class DataSplits:
    """The rows of a study.

    Attributes:
        labels: Class names, in the order of the class indices, ``(C,)``.
        test_source: Where the test rows come from, if from a source of their own.
        fingerprint: SHA-256 over the contents of the sources and over which rows went where.
        duplicates_removed: Rows that the sources left out because their text stood there already.
        overlap_removed: Training and validation rows left out because their text is in a later split.
        notes: What was changed or left out, in plain words.
    """

    train: Split
    validation: Split
    test: Split
    labels: tuple[str, ...]
    source: str
    test_source: str | None
    fingerprint: str
    duplicates_removed: int
    overlap_removed: int
    notes: tuple[str, ...]


def make_splits(
    dataset: RawDataset,
    *,
    test: RawDataset | None = None,
    train_size: int | None = None,
    validation_size: int | float | None = None,
    test_size: int | float | None = None,
    seed: int = 0,
) -> DataSplits:
    """Divide rows into train, validation and test.

    Args:
        dataset: Its own splits are used where it has them; a missing one is taken from its training rows.
        test: Source of the test rows: its own test split, or all of it where it has no splits.
        train_size: Rows to train on; None means all.
        validation_size: Rows, or a share of the training rows. None means a tenth of the rows to train on, at least
            200, at most a quarter of what there is, and at least one row of each class.
        test_size: Rows, or a share of all rows; None means a fifth. Test rows that come from a test split or a source
            of their own are cut down to it only where it is a whole number; `validation_size` likewise.
        seed: Decides which rows go where.

    Returns:
        Splits with every row in the order of its source.

    Raises:
        DataError: If a class has too few rows, a label is unknown in training, or a size cannot be met.
        ConfigError: If a size is neither a share below 1 nor a whole number.
    """
    by_split = _rows_by_split(dataset)
    train, validation, test_rows = (by_split[name] for name in SPLITS)
    labels, notes = _label_order(dataset, train)
    pool = _Pool(dataset, labels, seed)
    test_pool = pool
    if test is not None:
        if len(test_rows):
            notes.append(f"The {len(test_rows):,} test rows of {dataset.source} are not used.")
        test_pool, test_rows = _Pool(test, labels, seed), _test_rows(test)
    test_pool.refuse_unknown(test_rows, "test")
    pool.refuse_unknown(validation, "validation")

    # Test first: nothing that follows alters it.
    if len(test_rows):
        test_rows = test_pool.cut(test_rows, test_size, "test", notes)
    else:
        keep = 1 if len(validation) else 2
        pool.require(train, 1 + keep, f" ({1 + keep} are needed to give each split one)")
        size = _rows(test_size, len(train), "test_size") or max(round(_TEST_SHARE * len(train)), len(labels))
        test_rows = pool.draw(train, size, "test", keep=keep)
        train = np.setdiff1d(train, test_rows)
    test_texts = test_pool.texts(test_rows)
    train, overlap = pool.without(train, test_texts)

    if len(validation):
        validation, removed = pool.without(validation, test_texts)
        overlap += removed
        if not len(validation):
            raise DataError(f"{dataset.source}: the text of every validation row is in the test rows too.")
        validation = pool.cut(validation, validation_size, "validation", notes)
    else:
        why = f" after {overlap:,} duplicates of test rows were removed" if overlap else ""
        pool.require(train, 2, f"{why} (2 are needed, to train and to validate)")
        size = _rows(validation_size, len(train), "validation_size")
        size = size or _default_validation(len(train), train_size, len(labels))
        validation = pool.draw(train, size, "validation", keep=1)
        train = np.setdiff1d(train, validation)
    train, removed = pool.without(train, pool.texts(validation))
    overlap += removed
    pool.require(
        train, 1, f" to train on, after {overlap:,} rows whose text is in a later split were removed"
    )

    if train_size is not None:
        if not len(labels) <= train_size <= len(train):
            raise DataError(
                f"train_size is {train_size:,}. Expected {len(labels):,} (the classes) to {len(train):,}: what "
                f"{dataset.source} has left after {len(test_rows):,} rows for test, {len(validation):,} for validation "
                f"and {overlap:,} duplicates across splits."
            )
        train = pool.draw(train, train_size, "train", keep=0)
    return DataSplits(
        train=pool.split(train),
        validation=pool.split(validation),
        test=test_pool.split(test_rows),
        labels=labels,
        source=dataset.source,
        test_source=None if test is None else test.source,
        fingerprint=_fingerprint(dataset, test, labels, (train, validation, test_rows)),
        duplicates_removed=dataset.duplicates_removed + (0 if test is None else test.duplicates_removed),
        overlap_removed=overlap,
        notes=(*dataset.notes, *(() if test is None else test.notes), *notes),
    )


class _Pool:
    """Rows of one dataset, addressed by index, with one random generator for each use."""

    def __init__(self, dataset: RawDataset, labels: tuple[str, ...], seed: int) -> None:
        self._dataset = dataset
        self._names = labels
        self._seed = seed
        index = {name: i for i, name in enumerate(labels)}
        self._classes = np.fromiter((index.get(n, -1) for n in dataset.labels), np.int64, len(dataset.labels))

    def texts(self, rows: Indices) -> set[str]:
        return {self._dataset.texts[i] for i in rows}

    def split(self, rows: Indices) -> Split:
        return Split([self._dataset.texts[i] for i in rows], self._classes[rows])

    def without(self, rows: Indices, texts: set[str]) -> tuple[Indices, int]:
        """Leave out rows whose text is in `texts`; also returns how many those were."""
        kept = [i for i in rows if self._dataset.texts[i] not in texts]
        return np.array(kept, np.int64), len(rows) - len(kept)

    def require(self, rows: Indices, least: int, why: str) -> None:
        """Refuse classes with fewer than `least` rows."""
        counts = np.bincount(self._classes[rows], minlength=len(self._names))
        few = {name: int(n) for name, n in zip(self._names, counts, strict=True) if n < least}
        if few:
            raise DataError(
                f"{self._dataset.source}: a class has too few rows: {_listed(few)}{why}. "
                "Add rows of it, or take the class out of the data."
            )

    def refuse_unknown(self, rows: Indices, name: str) -> None:
        """Refuse labels that no training row has."""
        unknown = Counter(self._dataset.labels[i] for i in rows if self._classes[i] < 0)
        if unknown:
            raise DataError(
                f"{self._dataset.source}: labels of {name} rows that no training row has: {_listed(unknown)}. "
                f"The training rows have {_listed(dict.fromkeys(self._names))}."
            )

    def cut(self, rows: Indices, size: int | float | None, name: str, notes: list[str]) -> Indices:
        """Cut a split that the source states down to a whole number of rows."""
        if size is None:
            return rows
        wanted = _rows(size, len(rows), f"{name}_size")
        if isinstance(size, float):
            notes.append(
                f"{name}_size {size:g} does not apply: {self._dataset.source} has its own {name} rows."
            )
            return rows
        if wanted < len(rows):
            notes.append(f"{wanted:,} of the {len(rows):,} {name} rows of {self._dataset.source} are used.")
        return self.draw(rows, wanted, name, keep=0)

    def draw(self, rows: Indices, size: int, name: str, *, keep: int) -> Indices:
        """Draw rows with the classes in proportion, the same for the same seed.

        Args:
            rows: To draw from.
            size: How many.
            name: The split that they are for.
            keep: Rows of each class that must stay.

        Raises:
            DataError: If that many cannot be drawn.
        """
        classes = self._classes[rows]
        present, counts = np.unique(classes, return_counts=True)
        most = int((counts - keep).sum())
        if size > most:
            raise DataError(
                f"{name}_size is {size:,}, but {self._dataset.source} has {len(rows):,} rows to take it from"
                + (f", of which {len(rows) - most:,} must stay for the other splits." if keep else ".")
            )
        order = np.random.default_rng([self._seed, SPLITS.index(name)]).permutation(len(rows))
        taken = [
            order[classes[order] == label][:count]
            for label, count in zip(present, allocate(counts, size, keep=keep), strict=True)
        ]
        return np.sort(rows[np.concatenate(taken)])


def allocate(available: Indices, size: int, *, keep: int = 0) -> Indices:
    """How many rows to draw of each class: in proportion, to within one row.

    Each class gets at least one row where `size` allows for it, at the cost of the largest.

    Args:
        available: Rows of each class, ``(C,)``, all above `keep`.
        size: Rows to draw, at most ``(available - keep).sum()``.
        keep: Rows of each class that must stay.

    Returns:
        Rows of each class, ``(C,)``, with the sum `size`.
    """
    share = available * (size / available.sum())
    most = available - keep
    least = np.full_like(available, size >= len(available))
    counts = np.clip(np.floor(share).astype(np.int64), least, most)
    while counts.sum() < size:
        counts[np.argmax(np.where(counts < most, share - counts, -np.inf))] += 1
    while counts.sum() > size:
        counts[np.argmax(np.where(counts > least, counts - share, -np.inf))] -= 1
    return counts


def _rows(size: int | float | None, available: int, key: str) -> int:
    """A size in rows; 0 where none is given."""
    if size is None:
        return 0
    if isinstance(size, int) and size >= 1:
        return size
    if not 0 < size < 1:
        raise ConfigError(
            f"data.{key} is {size:g}. Expected a share between 0 and 1, or a whole number of rows."
        )
    return max(1, round(size * available))


def _default_validation(available: int, train_size: int | None, n_classes: int) -> int:
    tenth = round(_VALIDATION_SHARE * min(available, train_size or available))
    return max(min(max(_VALIDATION_ROWS, tenth), int(_VALIDATION_MOST * available)), n_classes)


def _label_order(dataset: RawDataset, train: Indices) -> tuple[tuple[str, ...], list[str]]:
    """Labels of the training rows in the stated order, else by number, else by name; and notes."""
    found = {dataset.labels[i] for i in train}
    if not found:
        has = _listed(Counter(dataset.split or ())) or "no rows at all"
        raise DataError(f"{dataset.source} has no training rows. Found: {has}.")
    if len(found) == 1:
        raise DataError(
            f"{dataset.source}: all {len(train):,} training rows have the label '{found.pop()}'. "
            "Expected two classes at least: is the label column the right one?"
        )
    if dataset.label_order is not None:
        unused = dict.fromkeys(name for name in dataset.label_order if name not in found)
        notes = (
            [f"{dataset.source} states labels that no training row has: {_listed(unused)}."] if unused else []
        )
        return tuple(name for name in dataset.label_order if name in found), notes
    if all(_WHOLE.fullmatch(name) for name in found):
        return tuple(sorted(found, key=lambda name: (int(name), name))), []
    return tuple(sorted(found)), []


def _rows_by_split(dataset: RawDataset) -> dict[str, Indices]:
    if dataset.split is None:
        return {"train": np.arange(len(dataset.texts)), "validation": np.arange(0), "test": np.arange(0)}
    return {
        name: np.array([i for i, s in enumerate(dataset.split) if s == name], np.int64) for name in SPLITS
    }


def _test_rows(test: RawDataset) -> Indices:
    if test.split is None:
        return np.arange(len(test.texts))
    rows = _rows_by_split(test)["test"]
    if not len(rows):
        raise DataError(f"{test.source} has no test rows. Found: {_listed(Counter(test.split))}.")
    return rows


def _listed(counts: Mapping[str, int | None]) -> str:
    shown = [f"'{name}'" + ("" if n is None else f" ({n:,})") for name, n in counts.items()]
    return ", ".join(shown[:_SHOWN]) + (f", ... ({len(shown)} in all)" if len(shown) > _SHOWN else "")


def _fingerprint(
    dataset: RawDataset, test: RawDataset | None, labels: tuple[str, ...], rows: tuple[Indices, ...]
) -> str:
    digest = hashlib.sha256(repr((dataset.fingerprint, test and test.fingerprint, labels)).encode())
    for indices in rows:
        digest.update(f"{len(indices)}\n".encode() + indices.astype("<i8").tobytes())
    return digest.hexdigest()
