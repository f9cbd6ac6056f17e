"""Drawing rows of one dataset with the classes in proportion, and the checks that a split can be made.

Rows are indices, so no text is copied. Not for deciding which split comes from where: see
`feathertune.data.splitting.splits`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feathertune.data.reading.labels import names_of
from feathertune.data.reading.texts import Text
from feathertune.data.sources.collector import SPLITS, RawDataset
from feathertune.data.splitting.stratify import Members, even_draw, iterative_draw
from feathertune.errors import ConfigError, DataError, isolated

Indices = NDArray[np.int64]
_SHOWN = 10
# Rows to learn numbers from: a single one has no spread.
LEAST_NUMBERS = 2


@dataclass(frozen=True)
class Split:
    """Texts and labels, which point into `DataSplits.labels`.

    Attributes:
        texts: ``(N,)``.
        labels: Class indices, ``(N,)`` int64; where a text may have several, which it has, ``(N, C)`` int8 of 0 and 1;
            or numbers, ``(N,)`` float64.
    """

    texts: Sequence[Text]
    labels: NDArray[Any]


class Pool:
    """Rows of one dataset, addressed by index, with one random generator for each use."""

    def __init__(self, dataset: RawDataset, labels: tuple[str, ...], seed: int) -> None:
        self._dataset = dataset
        self._names = labels
        self._seed = seed
        self._index = {name: i for i, name in enumerate(labels)}
        self._members: Members | None = None
        self._numbers = np.array(dataset.labels, np.float64) if dataset.numbers else None
        if dataset.multi_label:
            self._members = np.zeros((len(dataset.labels), len(labels)), np.int8)
            for row, label in enumerate(dataset.labels):
                self._members[row, [self._index[name] for name in names_of(label) if name in self._index]] = 1
        # Where a row may have several, or a number, none of these is asked.
        found = (self._index.get(str(label), -1) for label in dataset.labels)
        self._classes = np.fromiter(found, np.int64, len(dataset.labels))

    def texts(self, rows: Indices) -> set[Text]:
        """The different texts of these rows."""
        return {self._dataset.texts[i] for i in rows}

    def split(self, rows: Indices) -> Split:
        """These rows as a split."""
        labels: NDArray[Any] = self._classes if self._members is None else self._members
        if self._numbers is not None:
            labels = self._numbers
        return Split([self._dataset.texts[i] for i in rows], labels[rows])

    def without(self, rows: Indices, texts: set[Text]) -> tuple[Indices, int]:
        """Leave out rows whose text is in `texts`; also returns how many those were."""
        kept = [i for i in rows if self._dataset.texts[i] not in texts]
        return np.array(kept, np.int64), len(rows) - len(kept)

    def require(self, rows: Indices, least: int, why: str) -> None:
        """Refuse classes with fewer than `least` rows; of several labels a text, those with none.

        There a rare label cannot be in every split, and need not be: it is scored where it is. Of numbers there have to
        be so many rows in all, and `LEAST_NUMBERS`.
        """
        if self._numbers is not None:
            if len(rows) < max(least, LEAST_NUMBERS):
                raise DataError(f"{self._dataset.source} has too few rows: {len(rows):,}{why}. Add rows.")
            return
        if self._members is not None:
            counts, least, why = self._members[rows].sum(axis=0, dtype=np.int64), 1, ""
        else:
            counts = np.bincount(self._classes[rows], minlength=len(self._names))
        few = {name: int(n) for name, n in zip(self._names, counts, strict=True) if n < least}
        if few:
            raise DataError(
                f"{self._dataset.source}: a class has too few rows: {listed(few)}{why}. "
                "Add rows of it, or take the class out of the data."
            )

    def refuse_unknown(self, rows: Indices, name: str) -> None:
        """Refuse labels that no training row has; a number may be any."""
        if self._numbers is not None:
            return
        unknown = Counter(n for i in rows for n in names_of(self._dataset.labels[i]) if n not in self._index)
        if unknown:
            raise DataError(
                f"{self._dataset.source}: labels of {name} rows that no training row has: {listed(unknown)}. "
                f"The training rows have {listed(dict.fromkeys(self._names))}."
            )

    def cut(self, rows: Indices, size: int | float | None, name: str, notes: list[str]) -> Indices:
        """Cut a split that the source states down to a whole number of rows."""
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
        """Draw rows with the classes in proportion, the same for the same seed.

        Sets of labels by `iterative_draw`, numbers by `even_draw`.

        Args:
            rows: To draw from.
            size: How many.
            name: The split that they are for.
            keep: Rows of each class that must stay; of numbers, in all.

        Raises:
            DataError: If that many cannot be drawn.
        """
        rng = np.random.default_rng([self._seed, SPLITS.index(name)])
        if self._members is not None or self._numbers is not None:
            most = len(rows) - (keep if self._members is None else bool(keep))
            if size > most:
                raise DataError(
                    f"{name}_size is {size:,}, but {self._dataset.source} has {len(rows):,} rows to take it from."
                )
            if self._numbers is not None:
                return rows[even_draw(self._numbers[rows], size, rng=rng)]
            assert self._members is not None, "it is one of the two"
            return rows[iterative_draw(self._members[rows], size, rng=rng, first=name == "train")]
        classes = self._classes[rows]
        counts = np.unique(classes, return_counts=True)[1]
        most = int((counts - keep).sum())
        if size > most:
            raise DataError(
                f"{name}_size is {size:,}, but {self._dataset.source} has {len(rows):,} rows to take it from"
                + (f", of which {len(rows) - most:,} must stay for the other splits." if keep else ".")
            )
        order = rng.permutation(len(rows))
        by_class = np.split(order[np.argsort(classes[order], kind="stable")], np.cumsum(counts)[:-1])
        taken = [some[:n] for some, n in zip(by_class, allocate(counts, size, keep=keep), strict=True)]
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
    counts: Indices = np.clip(np.floor(share).astype(np.int64), least, most)
    while counts.sum() < size:
        counts[np.argmax(np.where(counts < most, share - counts, -np.inf))] += 1
    while counts.sum() > size:
        counts[np.argmax(np.where(counts > least, counts - share, -np.inf))] -= 1
    return counts


def rows_of(size: int | float | None, available: int, key: str) -> int:
    """A size in rows; 0 where none is given."""
    if size is None:
        return 0
    if isinstance(size, int) and size >= 1:
        return size
    if not 0 < size < 1:
        raise ConfigError(f"data.{key} is {size:g}. Expected a share between 0 and 1, or a whole number of rows.")
    return max(1, round(size * available))


def listed(counts: Mapping[str, int | None]) -> str:
    """Names, with counts where there are some, for a message."""
    shown = [f"'{isolated(name)}'" + ("" if n is None else f" ({n:,})") for name, n in counts.items()]
    return ", ".join(shown[:_SHOWN]) + (f", ... ({len(shown)} in all)" if len(shown) > _SHOWN else "")
