"""Train, validation and test rows: stratified, seeded, and without a text of a later split in an earlier one.

The test rows are set apart first, then the validation rows, which never come from the test rows; the training
rows are cut down last. For one seed, a smaller `train_size` changes no test row. Not for cross-validation.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from feathertune.data.reading.columns import TEXT_COLUMNS
from feathertune.data.reading.labels import names_of
from feathertune.data.reading.texts import are_pairs
from feathertune.data.sources.collector import SPLITS, RawDataset, SplitName
from feathertune.data.splitting.pool import LEAST_NUMBERS, Indices, Pool, Split, listed, rows_of
from feathertune.errors import DataError

_TEST_SHARE = 0.2
_VALIDATION_SHARE = 0.1
_VALIDATION_ROWS = 200
_VALIDATION_MOST = 0.25
_WHOLE = re.compile(r"-?[0-9]{1,18}")
# What numbers are called in a source without columns.
_NUMBER = "number"


@dataclass(frozen=True)
class DataSplits:
    """The rows of a study.

    Attributes:
        labels: Class names, in the order of the class indices, ``(C,)``; of numbers what they are called, one name.
        multi_label: Whether a text may have several.
        test_source: Where the test rows come from, if from a source of their own.
        fingerprint: SHA-256 over the contents of the sources and over which rows went where.
        duplicates_removed: Rows that the sources left out because their text stood there already.
        overlap_removed: Training and validation rows left out because their text is in a later split.
        notes: What was changed or left out, in plain words.
        text_columns: Where the texts stood; two names for pairs.
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
    text_columns: tuple[str, ...] = TEXT_COLUMNS[:1]
    multi_label: bool = False

    @property
    def numbers(self) -> bool:
        """Whether the label is a number."""
        return self.train.labels.dtype.kind == "f"

    def __getitem__(self, name: SplitName) -> Split:
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]


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
        validation_size: Rows, or a share of the training rows. None means a tenth of the rows to train on, at
            least 200, at most a quarter of what there is, and at least one row of each class; 0 none at all.
        test_size: Rows, or a share of all rows; None means a fifth, 0 none at all. Test rows with a split or a source
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
    pool = Pool(dataset, labels, seed)
    test_pool = pool
    if test is not None:
        _require_same_kind(dataset, test)
        if len(test_rows):
            notes.append(f"The {len(test_rows):,} test rows of {dataset.source} are not used.")
        test_pool, test_rows = Pool(test, labels, seed), _test_rows(test)
    test_pool.refuse_unknown(test_rows, "test")
    pool.refuse_unknown(validation, "validation")

    validation = _unless_none(validation, validation_size, "validation", notes)
    # Test first: nothing that follows alters it.
    if test_size == 0:
        test_rows = _unless_none(test_rows, test_size, "test", notes)
    elif len(test_rows):
        test_rows = test_pool.cut(test_rows, test_size, "test", notes)
    else:
        keep = 1 if len(validation) or validation_size == 0 else 2
        pool.require(train, 1 + keep, f" ({1 + keep} are needed to give each split one)")
        size = rows_of(test_size, len(train), "test_size")
        size = size or max(round(_TEST_SHARE * len(train)), len(labels))
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
    elif validation_size != 0:
        why = f" after {overlap:,} duplicates of test rows were removed" if overlap else ""
        pool.require(train, 2, f"{why} (2 are needed, to train and to validate)")
        size = rows_of(validation_size, len(train), "validation_size")
        size = size or _default_validation(len(train), train_size, len(labels))
        validation = pool.draw(train, size, "validation", keep=1)
        train = np.setdiff1d(train, validation)
    train, removed = pool.without(train, pool.texts(validation))
    overlap += removed
    pool.require(train, 1, f" to train on: {overlap:,} rows whose text is in a later split were removed")

    if train_size is not None:
        least, why = (LEAST_NUMBERS, "") if dataset.numbers else (len(labels), " (the number of classes)")
        if not least <= train_size <= len(train):
            raise DataError(
                f"train_size is {train_size:,}. Expected {least:,}{why} to {len(train):,}: what "
                f"{dataset.source} has left beside {len(test_rows):,} rows for test, "
                f"{len(validation):,} for validation and {overlap:,} duplicates across splits."
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
        text_columns=dataset.text_columns,
        multi_label=dataset.multi_label,
    )


def _unless_none(rows: Indices, size: int | float | None, name: str, notes: list[str]) -> Indices:
    """The rows of a split that the source states, or none of them where its size is 0."""
    if size != 0:
        return rows
    if len(rows):
        notes.append(f"The {len(rows):,} {name} rows are not used: {name}_size is 0.")
    return rows[:0]


def _default_validation(available: int, train_size: int | None, n_classes: int) -> int:
    tenth = round(_VALIDATION_SHARE * min(available, train_size or available))
    return max(min(max(_VALIDATION_ROWS, tenth), int(_VALIDATION_MOST * available)), n_classes)


def _label_order(dataset: RawDataset, train: Indices) -> tuple[tuple[str, ...], list[str]]:
    """Labels of the training rows in the stated order, else by number, else by name; and notes."""
    found = {name for i in train for name in names_of(dataset.labels[i])}
    if not len(train):
        has = listed(Counter(dataset.split or ())) or "no rows at all"
        raise DataError(f"{dataset.source} has no training rows. Found: {has}.")
    if dataset.numbers:
        if len(found) == 1:
            raise DataError(
                f"{dataset.source}: all {len(train):,} training rows have the number {found.pop()}. Expected different "
                "ones: is the label column the right one?"
            )
        return (_NUMBER if dataset.columns is None else dataset.columns.label,), []
    if dataset.multi_label and len(found) < 2:
        raise DataError(
            f"{dataset.source}: the {len(train):,} training rows have {listed(dict.fromkeys(found)) or 'no label'}. "
            "Expected two labels at least: is the label column the right one, and the separator (--label-separator)?"
        )
    if len(found) == 1 and not dataset.multi_label:
        raise DataError(
            f"{dataset.source}: all {len(train):,} training rows have the label '{found.pop()}'. "
            "Expected two classes at least: is the label column the right one?"
        )
    if dataset.label_order is not None:
        unused = dict.fromkeys(name for name in dataset.label_order if name not in found)
        notes = [f"No training row has these labels of {dataset.source}: {listed(unused)}."] if unused else []
        return tuple(name for name in dataset.label_order if name in found), notes
    if all(_WHOLE.fullmatch(name) for name in found):
        return tuple(sorted(found, key=lambda name: (int(name), name))), []
    return tuple(sorted(found)), []


def _rows_by_split(dataset: RawDataset) -> dict[str, Indices]:
    if dataset.split is None:
        return {"train": np.arange(len(dataset.texts)), "validation": np.arange(0), "test": np.arange(0)}
    return {name: np.array([i for i, s in enumerate(dataset.split) if s == name], np.int64) for name in SPLITS}


def _require_same_kind(dataset: RawDataset, test: RawDataset) -> None:
    if dataset.numbers != test.numbers:
        numbers, names = (dataset, test) if dataset.numbers else (test, dataset)
        raise DataError(
            f"The labels of {numbers.source} are numbers, those of {names.source} are names of classes. Expected both "
            "of one kind: --set data.task=regression reads whole numbers as numbers, too."
        )
    if dataset.multi_label != test.multi_label:
        several, one = (dataset, test) if dataset.multi_label else (test, dataset)
        raise DataError(
            f"{several.source} holds texts with any number of labels, {one.source} texts with one label each. Expected "
            "both of one kind: name the separator of the labels (--label-separator)."
        )
    if are_pairs(dataset.texts) != are_pairs(test.texts):
        pairs, single = (dataset, test) if are_pairs(dataset.texts) else (test, dataset)
        raise DataError(
            f"{pairs.source} holds pairs of texts (columns {', '.join(pairs.text_columns)}), {single.source} holds "
            "single ones. Expected both of one kind: name the columns with --text-column A,B or --text-column A."
        )


def _test_rows(test: RawDataset) -> Indices:
    """The test rows of a source of its own: its test split, or all of it where it has no splits."""
    rows = _rows_by_split(test)["train" if test.split is None else "test"]
    if not len(rows):
        raise DataError(
            f"{test.source} has no test rows. Found: {listed(Counter(test.split or ())) or 'no rows at all'}."
        )
    return rows


def _fingerprint(
    dataset: RawDataset, test: RawDataset | None, labels: tuple[str, ...], rows: tuple[Indices, ...]
) -> str:
    digest = hashlib.sha256(repr((dataset.fingerprint, test and test.fingerprint, labels)).encode())
    for indices in rows:
        digest.update(f"{len(indices)}\n".encode() + indices.astype("<i8").tobytes())
    return digest.hexdigest()
