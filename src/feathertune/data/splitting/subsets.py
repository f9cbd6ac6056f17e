"""Subsets of the training rows: a smaller one is always part of a larger one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from feathertune.config import ALL_ROWS
from feathertune.errors import ConfigError
from feathertune.tasks.labels.kind import Indices, LabelKind, Labels


def settle_sizes(wanted: Sequence[int | str], *, n_rows: int, n_classes: int) -> tuple[int, ...]:
    """Return numbers of rows, ascending, without `ALL_ROWS`; raise a `ConfigError` for one that leaves out a class."""
    sizes = [n_rows if size == ALL_ROWS else int(size) for size in wanted]
    for size in sizes:
        if not n_classes <= size <= n_rows:
            raise ConfigError(
                f"--train-sizes has {size:,}. Expected {n_classes:,} (the number of classes) to {n_rows:,}: the "
                f"training rows left after validation and test, or {ALL_ROWS} for all of them."
            )
    if len(set(sizes)) < len(sizes):
        raise ConfigError(
            f"--train-sizes has {n_rows:,} and {ALL_ROWS}, which are the same rows. Leave out one of them."
        )
    return tuple(sorted(sizes))


def nested_rows(kind: LabelKind, labels: Labels, size: int, *, seed: int) -> Indices:
    """Draw `size` of N rows that represent all, ascending; with the same seed, fewer rows are always among more."""
    rng = np.random.default_rng((seed, 5))  # a stream of its own, apart from those of splits and batches
    return np.sort(kind.nested_order(labels, rng)[:size])


def rows_of_each(classes: Indices, shots: int, *, seed: int) -> Indices:
    """Draw `shots` rows of each class ``(N,)``, ascending; with the same seed, fewer rows are always among more."""
    rng = np.random.default_rng((seed, 6))
    return np.sort(np.concatenate([rng.permutation(np.flatnonzero(classes == c))[:shots] for c in np.unique(classes)]))
