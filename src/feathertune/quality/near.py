"""Texts that are nearly the same, found among millions of rows by MinHash and bands of it; nothing is compared twice.

A text is the set of its pairs of words. Two texts whose sets have nearly all in common agree in most of the smallest
numbers under random orders of all pairs, so rows that agree in all of one band are candidates; whether they are alike
is then told from the sets themselves. Not for texts that are the same to the letter: that is
`feathertune.quality.repeats`.

Source:
    Broder 1997, "On the resemblance and containment of documents"; bands: Leskovec, Rajaraman & Ullman, "Mining of
    Massive Datasets", section 3.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from feathertune.quality.words import Words

# From here on two texts are called nearly the same: one word of fifteen may be another one.
ALIKE = 0.7
_BANDS, _ORDERS_A_BAND = 6, 4  # of two texts that are 0.8 alike 96 % are found, at 0.7 some 80 %, at 0.3 some 5 %
_ORDERS = _BANDS * _ORDERS_A_BAND
_SIGNED = 16  # orders of which four bits each are kept, to drop what agrees in a band by chance
_LEAST_SIGNED = 9
_SEED = 1
# Where more rows than this are kept, rows are left out; 36 bytes each.
_MOST_ROWS = 4_000_000
# Of a longer text so many of its smallest numbers stand for the set.
_SKETCH = 512

Pairs = NDArray[np.int64]
Shingles = NDArray[np.uint32]


@dataclass
class Sketches:
    """What is kept of each text: a number a band, and 64 bits that tell how alike two texts are.

    Attributes:
        one_in: Only one text in so many is kept; alike texts are kept together, mostly, since the choice is made by
            what stands in them. 1 until there are too many.
    """

    one_in: int = 1
    most_rows: int = _MOST_ROWS
    n: int = 0
    _rows: list[NDArray[np.int64]] = field(default_factory=list)
    _chosen_by: list[Shingles] = field(default_factory=list)
    _bands: list[Shingles] = field(default_factory=list)
    _signatures: list[NDArray[np.uint64]] = field(default_factory=list)

    def add(self, words: Words, rows: NDArray[np.int64]) -> None:
        """Take N texts.

        Args:
            words: Of the texts.
            rows: Their numbers, rising from one call to the next, ``(N,)``.
        """
        filled = words.counts > 0
        smallest = _smallest(words, filled)
        chosen_by = smallest[:, 0].copy()
        self._keep(rows[filled], chosen_by, _bands(smallest), _signatures(smallest), chosen_by % self.one_in == 0)
        while self.n > self.most_rows:
            self._thin()

    def _keep(
        self,
        rows: NDArray[np.int64],
        chosen_by: Shingles,
        bands: Shingles,
        signatures: NDArray[np.uint64],
        kept: NDArray[np.bool_],
    ) -> None:
        self._rows.append(rows[kept])
        self._chosen_by.append(chosen_by[kept])
        self._bands.append(bands[kept])
        self._signatures.append(signatures[kept])
        self.n += int(kept.sum())

    def _thin(self) -> None:
        """Leave out every second row."""
        self.one_in *= 2
        parts = list(zip(self._rows, self._chosen_by, self._bands, self._signatures, strict=True))
        self._rows, self._chosen_by, self._bands, self._signatures, self.n = [], [], [], [], 0
        for rows, chosen_by, bands, signatures in parts:
            self._keep(rows, chosen_by, bands, signatures, chosen_by % self.one_in == 0)

    def forget(self) -> None:
        """Give the memory back; what was kept is gone."""
        self._rows, self._chosen_by, self._bands, self._signatures, self.n = [], [], [], [], 0

    def candidates(self, usable: NDArray[np.bool_]) -> Pairs:
        """Pairs of rows that may be alike, each once, the smaller row first, ``(K, 2)``.

        Rows that agree in a band are joined to their first and to the next one, not each to each.

        Args:
            usable: By row, whether it takes part.
        """
        if not self.n:
            return np.zeros((0, 2), np.int64)
        rows = np.concatenate(self._rows)
        signatures = np.concatenate(self._signatures)
        taking_part = np.flatnonzero(usable[rows])
        codes = []
        for band in range(_BANDS):
            keys = np.concatenate([part[:, band] for part in self._bands])[taking_part]
            left, right = _joined(keys, taking_part)
            alike = _agreements(signatures[left], signatures[right]) >= _LEAST_SIGNED
            codes.append(left[alike] << 32 | right[alike])
        unique = np.unique(np.concatenate(codes))
        return np.stack([rows[unique >> 32], rows[unique & 0xFFFFFFFF]], axis=1)


def shingles_of(words: Words) -> list[Shingles]:
    """The set of each text: its pairs of words as rising numbers, or the smallest of many."""
    codes = words.rows.astype(np.uint64) << np.uint64(32) | _numbers(words).astype(np.uint64)
    codes = np.unique(codes)
    borders = np.searchsorted(codes, np.arange(len(words) + 1, dtype=np.uint64) << np.uint64(32))
    numbers = (codes & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    return [numbers[start : min(end, start + _SKETCH)].copy() for start, end in pairwise(borders.tolist())]


def similarity(a: Shingles, b: Shingles) -> float:
    """The share that two sets have in common of all that is in either (Jaccard); of two empty ones 0.

    Args:
        a: As `shingles_of` gives it; of sets larger than it keeps, the share is an estimate, within some 0.02.
        b: Likewise.
    """
    common = np.intersect1d(a, b, assume_unique=True)
    if max(len(a), len(b)) < _SKETCH:
        return len(common) / max(1, len(a) + len(b) - len(common))
    smallest = np.union1d(a, b)[:_SKETCH]
    return float(np.isin(common, smallest, assume_unique=True).sum() / len(smallest))


def similarities(pairs: Pairs, sets: Mapping[int, Shingles]) -> NDArray[np.float64]:
    """`similarity` of each pair, ``(K,)``."""
    return np.array([similarity(sets[a], sets[b]) for a, b in pairs.tolist()], np.float64)


def _numbers(words: Words) -> Shingles:
    """A number of 32 bits for each pair of words."""
    return np.asarray(words.pairs() >> np.uint64(32)).astype(np.uint32)


def _smallest(words: Words, filled: NDArray[np.bool_]) -> Shingles:
    """The smallest number of each text under each order, ``(N, orders)``."""
    numbers, starts = _numbers(words), words.offsets[:-1][filled]
    smallest = np.empty((len(starts), _ORDERS), np.uint32)
    rng = np.random.default_rng(_SEED)
    for order in range(_ORDERS):
        factor, other = rng.integers(0, 1 << 31, 2, np.uint32)
        values = numbers * (factor * np.uint32(2) + np.uint32(1))
        values ^= values >> np.uint32(15)
        values *= other * np.uint32(2) + np.uint32(1)
        smallest[:, order] = np.minimum.reduceat(values, starts) if len(starts) else 0
    return smallest


def _bands(smallest: Shingles) -> Shingles:
    """One number for each band, ``(N, bands)``."""
    parts = smallest.reshape(len(smallest), _BANDS, _ORDERS_A_BAND).astype(np.uint64)
    keys = parts[:, :, 0]
    for part in range(1, _ORDERS_A_BAND):
        keys = (keys ^ (keys >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15) + parts[:, :, part]
    keys = (keys ^ (keys >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return (keys >> np.uint64(32)).astype(np.uint32)


def _signatures(smallest: Shingles) -> NDArray[np.uint64]:
    """Four bits of every order but the last, in 64, ``(N,)``."""
    signatures = np.zeros(len(smallest), np.uint64)
    for order in range(_SIGNED):
        signatures = signatures << np.uint64(4) | (smallest[:, order] & np.uint32(15)).astype(np.uint64)
    return signatures


def _agreements(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.int64]:
    """In how many orders two signatures agree, ``(K,)``."""
    differing = a ^ b
    differing |= differing >> np.uint64(2)
    differing |= differing >> np.uint64(1)
    ones = np.uint64(0x0101010101010101)
    counts = (differing & ones) + (differing >> np.uint64(4) & ones)  # a byte for two orders, then the sum of all bytes
    return _SIGNED - (counts * ones >> np.uint64(56)).astype(np.int64)


def _joined(keys: Shingles, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places with the same key: each with the next one, and with the first one."""
    ordered = np.sort(keys.astype(np.uint64) << np.uint64(32) | places.astype(np.uint64))
    keys, places = (ordered >> np.uint64(32)).astype(np.uint32), (ordered & np.uint64(0xFFFFFFFF)).astype(np.int64)
    same = keys[1:] == keys[:-1]
    begins = np.concatenate([[True], ~same])
    first = np.flatnonzero(begins)[np.cumsum(begins) - 1]
    later = np.flatnonzero(np.concatenate([[False], same]))
    left = np.concatenate([places[later - 1], places[first[later]]])
    return left, np.concatenate([places[later], places[later]])
