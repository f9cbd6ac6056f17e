"""Hash the words of texts, for any language, fast enough for millions of rows.

A word is a run of letters, marks and digits in lower case. In scripts without spaces between words (Chinese, Japanese,
Thai, Lao, Burmese, Khmer) and beyond the first 65,536 characters of Unicode, each character is a word. The baseline
splits words more carefully: see `feathertune.baselines.word_ngrams`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# Longer texts are truncated, so one text cannot use all the memory.
MOST_CHARACTERS = 100_000
_PIECE_CHARACTERS = 250_000  # characters processed at once
_BASE = np.uint64(0x9E3779B97F4A7C15)
_SEPARATOR, _INSIDE, _ALONE = range(3)
_ALONE_RANGES = ((0x0E00, 0x0EFF), (0x1000, 0x10BF), (0x1780, 0x17FF), (0x3040, 0x9FFF))
_OTHER_PLANES = 0x10000

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Words:
    """The words of N texts, concatenated."""

    hashes: Hashes  # hash of each word, (W,)
    offsets: NDArray[np.int64]  # start of each text and end of the last one, (N + 1,)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of words in each text, ``(N,)``."""
        return np.diff(self.offsets)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Row of each word's text, ``(W,)``."""
        return np.repeat(np.arange(len(self)), self.counts)

    def pairs(self) -> Hashes:
        """Return a hash for each word and the next word of its text; the last word is paired with 0, ``(W,)``."""
        following = np.zeros_like(self.hashes)
        following[:-1] = self.hashes[1:]
        following[self.offsets[1:][self.counts > 0] - 1] = 0
        return mix(self.hashes * np.uint64(3) + following)


def words_of(texts: Sequence[str]) -> Words:
    """Return the words of N texts without null bytes; only the first `MOST_CHARACTERS` of each are read.

    UnicodeEncodeError if a text holds half a surrogate pair.
    """
    piece_of = np.cumsum([min(len(text), MOST_CHARACTERS) for text in texts]) // _PIECE_CHARACTERS
    borders = [0, *(np.flatnonzero(np.diff(piece_of)) + 1).tolist(), len(texts)]
    pieces = [_words_of_piece(texts[start:end]) for start, end in pairwise(borders)]
    counts = np.concatenate([np.zeros(1, np.int64), *(piece.counts for piece in pieces)])
    return Words(np.concatenate([piece.hashes for piece in pieces]), np.cumsum(counts))


def _words_of_piece(texts: Sequence[str]) -> Words:
    joined = "\0".join([*(text[:MOST_CHARACTERS] for text in texts), ""]).lower()
    codes = np.frombuffer(joined.encode("utf-32-le"), np.uint32)
    kinds = _kinds()[np.minimum(codes, _OTHER_PLANES)]
    inside = kinds != _SEPARATOR
    begins = inside.copy()
    begins[1:] &= ~inside[:-1] | (kinds[1:] == _ALONE) | (kinds[:-1] == _ALONE)
    starts = np.flatnonzero(begins)
    offsets = np.concatenate([[0], np.searchsorted(starts, np.flatnonzero(codes == 0))])
    if not len(starts):
        return Words(np.zeros(0, np.uint64), offsets)
    # Polynomial hash: the sum of characters times powers of a base.
    letters, first = codes[inside], np.flatnonzero(begins[inside])
    lengths = np.diff(first, append=len(letters))
    places = np.arange(len(letters)) - np.repeat(first, lengths)
    powers = np.cumprod(np.full(lengths.max(), _BASE), dtype=np.uint64)
    return Words(mix(np.add.reduceat(powers[places] * letters, first)), offsets)


@lru_cache(maxsize=1)
def _kinds() -> NDArray[np.uint8]:
    """Return the kind of each character of the first plane, and one kind for all others, ``(65537,)``."""
    kinds = np.array([unicodedata.category(chr(code))[0] in "LMN" for code in range(_OTHER_PLANES + 1)], np.uint8)
    for first, last in _ALONE_RANGES:
        kinds[first : last + 1] *= np.uint8(_ALONE)
    kinds[_OTHER_PLANES] = _ALONE
    return kinds


def mix(values: Hashes) -> Hashes:
    """Mix numbers over all 64 bits, one to one and in place.

    Source: Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators", with one product.
    """
    values ^= values >> np.uint64(32)
    values *= np.uint64(0xD6E8FEB86659FD93)
    values ^= values >> np.uint64(32)
    return values
