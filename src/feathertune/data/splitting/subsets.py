"""Fewer training rows of the same data, each number of them a part of every larger one; or so many of each class.

Not for splits, whose rows are apart from each other: see `feathertune.data.splitting.splits`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from feathertune.config import ALL_ROWS
from feathertune.data.splitting.stratify import covering_rows
from feathertune.errors import ConfigError

# Of numbers.
_STRATA = 10


def settle_sizes(wanted: Sequence[int | str], *, n_rows: int, n_classes: int) -> tuple[int, ...]:
    """Numbers of rows, from few to many.

    Args:
        wanted: Numbers, and `ALL_ROWS`.
        n_rows: Training rows that there are.
        n_classes: Of which each subset holds one row at least.

    Raises:
        ConfigError: If a number is larger than the data or too small for the classes, or is all of the rows twice.
    """
    sizes = [n_rows if size == ALL_ROWS else int(size) for size in wanted]
    for size in sizes:
        if not n_classes <= size <= n_rows:
            raise ConfigError(
                f"--train-sizes has {size:,}. Expected {n_classes:,} (the number of classes) to {n_rows:,}: the "
                f"training rows that there are beside validation and test, or {ALL_ROWS} for all of them."
            )
    if len(set(sizes)) < len(sizes):
        raise ConfigError(
            f"--train-sizes has {n_rows:,} and {ALL_ROWS}, which are the same rows. Leave out one of them."
        )
    return tuple(sorted(sizes))


def nested_rows(classes: np.ndarray, size: int, *, seed: int) -> np.ndarray:
    """Draw rows with the classes in proportion; with the same seed, fewer rows are always among more.

    The rows of a class are put at even distances along one order of all rows, at random places, and one row of each
    class first; a subset is the beginning of that order. Where a row may have several labels, a few rows that hold them
    all come first, and the order of the others is drawn. Numbers count as ten classes of equal size.

    Args:
        classes: Class of each row, ``(N,)``; which labels it has, ``(N, C)``; or its number, ``(N,)`` floats.
        size: Rows to draw.
        seed: Of the order.

    Returns:
        Row indices, ascending, ``(size,)``.
    """
    rng = np.random.default_rng((seed, 5))  # a stream of its own, beside those of splits and batches
    if classes.ndim == 2:
        order = rng.permutation(len(classes))
        first = covering_rows(classes, order)
        return np.sort(np.concatenate([first, order[~np.isin(order, first)]])[:size])
    if classes.dtype.kind == "f":
        ranks = np.argsort(np.argsort(classes, kind="stable"), kind="stable")
        classes = ranks * _STRATA // len(classes)
    place = np.empty(len(classes))
    for name in np.unique(classes):
        rows = rng.permutation(np.flatnonzero(classes == name))
        place[rows] = (np.arange(len(rows)) + rng.random()) / len(rows)
        place[rows[0]] -= 1.0
    return np.sort(np.argsort(place, kind="stable")[:size])


def rows_of_each(classes: np.ndarray, shots: int, *, seed: int) -> np.ndarray:
    """Draw so many rows of each class; with the same seed, fewer of them are always among more.

    Args:
        classes: Class of each row, ``(N,)``.
        shots: Rows of each of the C classes.
        seed: Of the draw.

    Returns:
        Row indices, ascending, ``(shots * C,)``.
    """
    rng = np.random.default_rng((seed, 6))
    return np.sort(np.concatenate([rng.permutation(np.flatnonzero(classes == c))[:shots] for c in np.unique(classes)]))


def check_shots(classes: np.ndarray, shots: int, names: Sequence[str]) -> None:
    """Refuse more rows of each class than there are, rows of which each may have several, and numbers.

    Args:
        classes: Class of each training row, ``(N,)``; which labels it has, ``(N, C)``; or its number, ``(N,)`` floats.
        shots: Rows of each class.
        names: Of the classes.

    Raises:
        ConfigError: If they cannot be drawn.
    """
    if classes.ndim == 2:
        raise ConfigError(
            f"--shots is {shots:,}, but a text may have several of the labels here, so that just as many rows of "
            "each cannot be drawn. Give --train-sizes a number of rows instead."
        )
    if classes.dtype.kind == "f":
        raise ConfigError(
            f"--shots is {shots:,}, but the label is a number here: there are no classes of which to draw so many rows "
            "each. Give --train-sizes a number of rows instead."
        )
    counts = np.bincount(classes, minlength=len(names))
    if counts.min() < shots:
        fewest = int(counts.argmin())
        raise ConfigError(
            f"--shots is {shots:,}, but '{names[fewest]}' has {counts[fewest]:,} training rows beside the test rows. "
            f"Give {counts[fewest]:,} or less."
        )
