"""Find near-duplicates among millions of rows by MinHash with banding.

Each text is the set of its word pairs. Rows whose minimum hashes agree in all orders of one band become candidates, and
the Jaccard similarity of their sets decides. A row takes 48 bytes.

Source: Broder 1997, "On the resemblance and containment of documents"; bands: Leskovec, Rajaraman & Ullman, "Mining of
Massive Datasets", section 3.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from feathertune.quality.words import Words, mix

# Minimum similarity of near-duplicates: about one word in fifteen may differ.
ALIKE = 0.7
_BANDS, _ORDERS_A_BAND = 6, 4  # finds 96% of the pairs with similarity 0.8, 80% at 0.7, 5% at 0.3
_ORDERS = _BANDS * _ORDERS_A_BAND
# The last bytes of some minimum hashes drop pairs that agree in one band by chance.
_SIGNED, _LEAST_AGREEMENTS = 16, 8
_SEED = 1
# Longer texts are represented by this many of their smallest hashes.
_SKETCH = 512
_ROW = np.dtype([("row", np.int64), ("bands", np.uint32, _BANDS), ("signature", np.uint8, _SIGNED)])

Pairs = NDArray[np.int64]
Sketches = NDArray[np.void]
Shingles = NDArray[np.uint32]


def sketches_of(words: Words, rows: NDArray[np.int64]) -> Sketches:
    """Return the sketches of N texts with row numbers ``(N,)``, for `candidates`; texts without words have none."""
    filled = words.counts > 0
    smallest = _smallest(words, filled)
    sketches = np.zeros(len(smallest), _ROW)
    sketches["row"], sketches["bands"] = rows[filled], _bands(smallest)
    sketches["signature"] = smallest[:, :_SIGNED] & np.uint32(0xFF)
    return sketches


def candidates(sketches: Sequence[Sketches], usable: NDArray[np.bool_]) -> Pairs:
    """Return unique pairs of rows that may be similar, the smaller row first, ``(K, 2)``.

    Rows that agree in a band are paired with the first and the previous of them, not all with all.
    """
    parts = [np.zeros(0, _ROW), *(part[usable[part["row"]]] for part in sketches)]
    rows, signatures = (np.concatenate([part[key] for part in parts]) for key in ("row", "signature"))
    codes = [np.zeros(0, np.int64)]
    for band in range(_BANDS if len(rows) else 0):
        left, right = _joined(np.concatenate([part["bands"][:, band] for part in parts]))
        agreeing = (signatures[left] == signatures[right]).sum(axis=1) >= _LEAST_AGREEMENTS
        codes.append(left[agreeing] << 32 | right[agreeing])
    unique = np.unique(np.concatenate(codes))
    return np.stack([rows[unique >> 32], rows[unique & 0xFFFFFFFF]], axis=1)


def shingles_of(words: Words) -> list[Shingles]:
    """Return each text's word pairs as ascending hashes: all, or the smallest `_SKETCH`."""
    codes = np.unique(words.rows.astype(np.uint64) << np.uint64(32) | _numbers(words).astype(np.uint64))
    borders = np.searchsorted(codes, np.arange(len(words) + 1, dtype=np.uint64) << np.uint64(32))
    numbers = codes.astype(np.uint32)
    return [numbers[start : min(end, start + _SKETCH)].copy() for start, end in pairwise(borders.tolist())]


def similarity(a: Shingles, b: Shingles) -> float:
    """Return the Jaccard similarity of two sets of shingles; within about 0.02 if shortened."""
    common = np.intersect1d(a, b, assume_unique=True)
    if max(len(a), len(b)) < _SKETCH:
        return len(common) / max(1, len(a) + len(b) - len(common))
    smallest = np.union1d(a, b)[:_SKETCH]
    return float(np.isin(common, smallest, assume_unique=True).sum() / len(smallest))


def similarities(pairs: Pairs, sets: Mapping[int, Shingles]) -> NDArray[np.float64]:
    """Return the `similarity` of each pair, ``(K,)``."""
    return np.array([similarity(sets[a], sets[b]) for a, b in pairs.tolist()], np.float64)


def _numbers(words: Words) -> Shingles:
    """Return a 32-bit hash for each word pair."""
    return (words.pairs() >> np.uint64(32)).astype(np.uint32)


def _smallest(words: Words, filled: NDArray[np.bool_]) -> Shingles:
    """Return each text's minimum hash under each order, ``(N, orders)``."""
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
    """Return one hash per band, ``(N, bands)``."""
    factors = np.random.default_rng(_SEED).integers(1, 1 << 62, _ORDERS_A_BAND, np.uint64)
    parts = smallest.reshape(len(smallest), _BANDS, _ORDERS_A_BAND)
    return (mix((parts * factors).sum(axis=2, dtype=np.uint64)) >> np.uint64(32)).astype(np.uint32)


def _joined(keys: Shingles) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of places with the same key: each with the previous and with the first."""
    order = np.argsort(keys, kind="stable")
    begins = np.concatenate([[True], np.diff(keys[order]) != 0])
    first = np.flatnonzero(begins)[np.cumsum(begins) - 1]
    later = np.flatnonzero(~begins)
    return order[np.concatenate([later - 1, first[later]])], order[np.concatenate([later, later])]
