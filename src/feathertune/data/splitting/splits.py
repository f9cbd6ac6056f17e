"""Split rows into train, validation and test: stratified, seeded, with no text of a later split in an earlier one.

Test rows are drawn first and training rows reduced last, so a smaller `train_size` changes no test row.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from feathertune.data.reading.columns import TEXT_COLUMNS
from feathertune.data.reading.texts import are_pairs
from feathertune.data.sources.collector import SPLITS, RawDataset, SplitName
from feathertune.data.splitting.pool import Pool, Split, rows_of
from feathertune.errors import DataError
from feathertune.tasks.labels.classes import CLASS_LABELS
from feathertune.tasks.labels.kind import Indices, LabelKind, listed

_TEST_SHARE = 0.2
_VALIDATION_SHARE = 0.1
_VALIDATION_ROWS = 200
_VALIDATION_MOST = 0.25
# Name of the predicted number if the source has no columns.
_NUMBER = "number"


@dataclass(frozen=True)
class DataSplits:
    """The rows of a study; `labels` are class names in the order of their indices, ``(C,)``, or a number's name."""

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
    kind: LabelKind = CLASS_LABELS

    def __getitem__(self, name: SplitName) -> Split:
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    def each(self, change: Callable[[SplitName, Split], Split]) -> DataSplits:
        """Return a copy with `change` applied to each split."""
        train, validation, test = (change(name, self[name]) for name in SPLITS)
        return replace(self, train=train, validation=validation, test=test)


def make_splits(
    dataset: RawDataset,
    *,
    test: RawDataset | None = None,
    train_size: int | None = None,
    validation_size: int | float | None = None,
    test_size: int | float | None = None,
    seed: int = 0,
) -> DataSplits:
    """Divide rows into train, validation and test, each in source order; raise a `DataError` if that is impossible.

    Args:
        dataset: Its own splits are used; a missing split is drawn from its training rows.
        test: Source of the test rows: its test split, or all its rows if it has no splits.
        train_size: Rows; None means all.
        validation_size: Rows, or a share of the training rows; None means `_default_validation`, 0 none.
        test_size: Rows, or a share of all rows; None means a fifth, 0 none. A share leaves a source's own split whole.
        seed: Seed of the draws.
    """
    by_split = _rows_by_split(dataset)
    train, validation, test_rows = (by_split[name] for name in SPLITS)
    labels, notes = _classes(dataset, train)
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
    # Test rows come first, so that no later step changes them.
    if test_size == 0:
        test_rows = _unless_none(test_rows, test_size, "test", notes)
    elif len(test_rows):
        test_rows = test_pool.cut(test_rows, test_size, "test", notes)
    else:
        keep = 1 if len(validation) or validation_size == 0 else 2
        pool.require(train, 1 + keep, f": {1 + keep} are needed, one for each split")
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
            raise DataError(f"{dataset.source}: every validation text also occurs in the test rows.")
        validation = pool.cut(validation, validation_size, "validation", notes)
    elif validation_size != 0:
        why = f" after {overlap:,} duplicates of test rows were removed" if overlap else ""
        pool.require(train, 2, f"{why}: 2 are needed, one to train on and one to validate on")
        size = rows_of(validation_size, len(train), "validation_size")
        size = size or _default_validation(len(train), train_size, len(labels))
        validation = pool.draw(train, size, "validation", keep=1)
        train = np.setdiff1d(train, validation)
    train, removed = pool.without(train, pool.texts(validation))
    overlap += removed
    pool.require(train, 1, f" to train on, after {overlap:,} rows whose text is in a later split were removed")

    if train_size is not None:
        least = max(2, len(labels))  # one row of each class, or two numbers
        if not least <= train_size <= len(train):
            raise DataError(
                f"train_size is {train_size:,}. Expected {least:,} to {len(train):,}. Of the other rows of "
                f"{dataset.source}, {len(test_rows):,} are for test, {len(validation):,} are for validation, and "
                f"{overlap:,} are duplicates across splits."
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
        kind=dataset.kind,
    )


def _unless_none(rows: Indices, size: int | float | None, name: str, notes: list[str]) -> Indices:
    if size != 0:
        return rows
    if len(rows):
        notes.append(f"The {len(rows):,} {name} rows are not used: {name}_size is 0.")
    return rows[:0]


def _default_validation(available: int, train_size: int | None, n_classes: int) -> int:
    tenth = round(_VALIDATION_SHARE * min(available, train_size or available))
    return max(min(max(_VALIDATION_ROWS, tenth), int(_VALIDATION_MOST * available)), n_classes)


def _classes(dataset: RawDataset, train: Indices) -> tuple[tuple[str, ...], list[str]]:
    _require_some(train, dataset, "training")
    column = _NUMBER if dataset.columns is None else dataset.columns.label
    return dataset.kind.classes([dataset.labels[i] for i in train], dataset.label_order, column, dataset.source)


def _rows_by_split(dataset: RawDataset) -> dict[str, Indices]:
    if dataset.split is None:
        return {"train": np.arange(len(dataset.texts)), "validation": np.arange(0), "test": np.arange(0)}
    return {name: np.array([i for i, s in enumerate(dataset.split) if s == name], np.int64) for name in SPLITS}


def _require_same_kind(dataset: RawDataset, test: RawDataset) -> None:
    if dataset.kind.name != test.kind.name:
        raise DataError(
            f"{dataset.source} has {dataset.kind.name} labels, but {test.source} has {test.kind.name} labels. "
            "Expected the same kind in both. Set data.task, or pass --label-separator."
        )
    if are_pairs(dataset.texts) != are_pairs(test.texts):
        pairs, single = (dataset, test) if are_pairs(dataset.texts) else (test, dataset)
        raise DataError(
            f"{pairs.source} has pairs of texts (columns {', '.join(pairs.text_columns)}), but {single.source} has "
            "single texts. Expected the same in both. Name the columns with --text-column A,B or --text-column A."
        )


def _test_rows(test: RawDataset) -> Indices:
    rows = _rows_by_split(test)["train" if test.split is None else "test"]
    _require_some(rows, test, "test")
    return rows


def _require_some(rows: Indices, dataset: RawDataset, kind: str) -> None:
    if not len(rows):
        has = listed(Counter(dataset.split or ())) or "no rows at all"
        raise DataError(f"{dataset.source} has no {kind} rows. Found: {has}.")


def _fingerprint(
    dataset: RawDataset, test: RawDataset | None, labels: tuple[str, ...], rows: tuple[Indices, ...]
) -> str:
    digest = hashlib.sha256(repr((dataset.fingerprint, test and test.fingerprint, labels)).encode())
    for indices in rows:
        digest.update(f"{len(indices)}\n".encode() + indices.astype("<i8").tobytes())
    return digest.hexdigest()
