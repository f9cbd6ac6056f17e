"""Draw rows of one dataset, and check that a split is possible. Rows are indices; no text is copied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from feathertune.config import ALL_ROWS
from feathertune.data.reading.texts import Text
from feathertune.data.sources.collector import SPLITS, RawDataset
from feathertune.errors import ConfigError, DataError
from feathertune.tasks.labels.alike import look_of
from feathertune.tasks.labels.kind import Indices, LabelKind, Labels, listed


@dataclass(frozen=True)
class Split:
    """Rows of one split: N texts, and N labels as `LabelKind.encode` makes them."""

    texts: Sequence[Text]
    labels: Labels


class Pool:
    """Rows of one dataset, addressed by index, with a separate random generator for each use."""

    def __init__(self, dataset: RawDataset, names: tuple[str, ...], seed: int) -> None:
        self._dataset = dataset
        self._kind = dataset.kind
        self._names = names
        self._seed = seed
        self._labels = dataset.kind.encode(dataset.labels, names)

    def texts(self, rows: Indices) -> set[Text]:
        """Return the distinct texts of these rows."""
        return {self._dataset.texts[i] for i in rows}

    def split(self, rows: Indices) -> Split:
        """Return these rows as a split."""
        return Split([self._dataset.texts[i] for i in rows], self._labels[rows])

    def without(self, rows: Indices, texts: set[Text]) -> tuple[Indices, int]:
        """Return the rows whose text is not in `texts`, and the number of rows left out."""
        kept = [i for i in rows if self._dataset.texts[i] not in texts]
        return np.array(kept, np.int64), len(rows) - len(kept)

    def require(self, rows: Indices, least: int, why: str) -> None:
        """Refuse classes with fewer than `least` rows; see `LabelKind.require`."""
        self._kind.require(self._labels[rows], self._names, least, why, self._dataset.source)

    def refuse_unknown(self, rows: Indices, name: str) -> None:
        """Refuse class names that no training row has."""
        labels, known = self._dataset.labels, {*self._names}
        unknown = Counter(found for i in rows for found in self._kind.names_of(labels[i]) if found not in known)
        if unknown:
            alike = {*map(look_of, unknown)} & {*map(look_of, self._names)}
            hint = " Some look alike: pass --merge-labels (data.merge_labels: true) to merge them." if alike else ""
            raise DataError(
                f"{self._dataset.source}: no training row has these labels of {name} rows: {listed(unknown)}. "
                f"The training rows have {listed(dict.fromkeys(self._names))}.{hint}"
            )

    def cut(self, rows: Indices, size: int | float | None, name: str, notes: list[str]) -> Indices:
        """Reduce a split that the source defines to a whole number of rows."""
        if size is None:
            return rows
        wanted = rows_of(size, len(rows), f"{name}_size")
        if isinstance(size, float):
            notes.append(f"{name}_size {size:g} does not apply: {self._dataset.source} has its own {name} rows.")
            return rows
        if wanted < len(rows):
            notes.append(f"{wanted:,} of the {len(rows):,} {name} rows of {self._dataset.source} are used.")
        return self.draw(rows, wanted, name, keep=0)

    def draw(self, rows: Indices, size: int, name: str, *, keep: int) -> Indices:
        """Draw a representative sample, leaving `keep` rows of each class; the same seed draws the same rows."""
        labels = self._labels[rows]
        most = self._kind.n_spare(labels, keep)
        if size > most:
            raise DataError(
                f"{name}_size is {size:,}, but {self._dataset.source} has only {len(rows):,} rows to draw from"
                + (f", and {len(rows) - most:,} of them must stay for the other splits." if keep else ".")
            )
        rng = np.random.default_rng([self._seed, SPLITS.index(name)])
        return rows[self._kind.draw(labels, size, keep, name == "train", rng)]


def rows_of(size: int | float | None, available: int, key: str) -> int:
    """Return a size in rows; 0 for None."""
    if size is None:
        return 0
    if isinstance(size, int) and size >= 1:
        return size
    if not 0 < size < 1:
        raise ConfigError(f"data.{key} is {size:g}. Expected a share between 0 and 1, or a whole number of rows.")
    return max(1, round(size * available))


def settle_sizes(wanted: Sequence[int | str], *, n_rows: int, n_classes: int) -> tuple[int, ...]:
    """Return sizes as numbers of rows, ascending; raise a `ConfigError` for a size out of range, or given twice."""
    sizes = [n_rows if size == ALL_ROWS else int(size) for size in wanted]
    for size in sizes:
        if not n_classes <= size <= n_rows:
            raise ConfigError(
                f"--train-sizes has {size:,}. Expected {n_classes:,} (the number of classes) to {n_rows:,} (the "
                f"training rows left after validation and test), or {ALL_ROWS}."
            )
    if len(set(sizes)) < len(sizes):
        raise ConfigError(f"--train-sizes has both {n_rows:,} and {ALL_ROWS}, which are the same rows. Leave one out.")
    return tuple(sorted(sizes))


def nested_rows(kind: LabelKind, labels: Labels, size: int, *, seed: int) -> Indices:
    """Draw a representative `size` of N rows, ascending; with one seed, larger samples contain smaller ones."""
    rng = np.random.default_rng((seed, 5))  # independent of the draws of splits and batches
    return np.sort(kind.nested_order(labels, rng)[:size])


def rows_of_each(classes: Indices, shots: int, *, seed: int) -> Indices:
    """Draw `shots` rows of each class ``(N,)``, ascending; with one seed, larger samples contain smaller ones."""
    rng = np.random.default_rng((seed, 6))
    return np.sort(np.concatenate([rng.permutation(np.flatnonzero(classes == c))[:shots] for c in np.unique(classes)]))
