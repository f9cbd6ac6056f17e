"""Texts to words as numbers, whatever the language, fast: what inspecting millions of rows stands on.

A word is a run of letters and digits in lower case. Scripts that put no spaces between words (Chinese, Japanese,
Thai, Lao, Burmese, Khmer) and emoji have a word a character: pairs of words are then pairs of characters. Not for an
encoder, which has a tokenizer of its own, not for words that shall be shown (a number cannot be turned back), and not
for the words of a baseline, whose borders `feathertune.baselines.word_ngrams` draws with more care.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# Of a longer text the beginning is read: one text must not decide how much memory is needed.
MOST_CHARACTERS = 100_000
_PIECE_CHARACTERS = 250_000  # of texts at once: what is made of them stays in the processor's cache
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse
# Signs of two bytes that end words of Armenian, Hebrew and Arabic; the others are of Latin-1, and of Indian scripts.
_TWO_BYTES = "\u0589\u05be\u060c\u061b\u061f\u06d4"
_SEPARATORS = f"\u0080-\u00bf{_TWO_BYTES}\u0964\u0965\u2000-\u207f\u3000-\u303f\uff00-\uff0f\uff1a-\uff20\uff5b-\uff65"
_ALONE = "\u0e00-\u0eff\u1000-\u10bf\u1780-\u17ff\u3040-\u9fff\U00010000-\U0010ffff"
_WORD = re.compile(f"[{_ALONE}]|[^\\x00-\\x2f\\x3a-\\x60\\x7b-\\x7f{_SEPARATORS}{_ALONE}]+")

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Words:
    """The words of N texts, one text after the other.

    Attributes:
        hashes: A number for each word, the same for the same word wherever it stands, ``(W,)``.
        offsets: Where each text starts and the last one ends, ``(N + 1,)`` int64.
    """

    hashes: Hashes
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> NDArray[np.int64]:
        """Words of each text, ``(N,)``."""
        return np.diff(self.offsets)

    @property
    def rows(self) -> NDArray[np.int64]:
        """The text of each word, ``(W,)``."""
        return np.repeat(np.arange(len(self)), self.counts)

    def pairs(self) -> Hashes:
        """A number for each word and the one after it in the same text; the last word stands alone, ``(W,)``."""
        following = np.zeros_like(self.hashes)
        following[:-1] = self.hashes[1:]
        following[self.offsets[1:][self.counts > 0] - 1] = 0
        return mix(self.hashes * np.uint64(3) + following)


def words_of(texts: Sequence[str]) -> Words:
    """Find the words of texts.

    Args:
        texts: N texts that can be written in UTF-8, without null bytes; of each the first `MOST_CHARACTERS` count.

    Raises:
        UnicodeEncodeError: If a text holds half a surrogate pair.
    """
    pieces = [_words_of_piece(piece) for piece in _pieces(texts)]
    if len(pieces) == 1:
        return pieces[0]
    counts = np.concatenate([np.zeros(1, np.int64), *(piece.counts for piece in pieces)])
    hashes = np.concatenate([np.zeros(0, np.uint64), *(piece.hashes for piece in pieces)])
    return Words(hashes, np.cumsum(counts))


def words_reference(text: str) -> list[str]:
    """The words of one text as strings: the slow way to what `words_of` finds."""
    return _WORD.findall(text[:MOST_CHARACTERS].lower())


def mix(values: Hashes) -> Hashes:
    """Spread numbers over all 64 bits, one to one; in place.

    Source:
        The finaliser of Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators", with one product.
    """
    values ^= values >> np.uint64(32)
    values *= np.uint64(0xD6E8FEB86659FD93)
    values ^= values >> np.uint64(32)
    return values


def _pieces(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    lengths = [min(len(text), MOST_CHARACTERS) for text in texts]
    if sum(lengths) <= _PIECE_CHARACTERS:
        yield [text[:MOST_CHARACTERS] for text in texts]
        return
    start = size = 0
    for row, length in enumerate(lengths):
        if size and size + length > _PIECE_CHARACTERS:
            yield [text[:MOST_CHARACTERS] for text in texts[start:row]]
            start, size = row, 0
        size += length
    yield [text[:MOST_CHARACTERS] for text in texts[start:]]


def _words_of_piece(texts: Sequence[str]) -> Words:
    if not texts:
        return Words(np.zeros(0, np.uint64), np.zeros(1, np.int64))
    content = np.frombuffer("\0".join([*texts, ""]).lower().encode(), np.uint8)
    starts, ends = _borders(content)
    # The sum of byte times power over a word, brought back to where words begin: the same wherever the word stands.
    powers, inverses = _powers(1 << (len(content) - 1).bit_length())
    sums = powers[: len(content)] * content
    sums = np.cumsum(sums, out=sums)
    hashes = sums[ends - 1]
    hashes -= np.where(starts > 0, sums[starts - 1], np.uint64(0))
    hashes *= inverses[starts]
    text_ends = np.flatnonzero(content == 0)
    return Words(mix(hashes), np.concatenate([[0], np.searchsorted(starts, text_ends)]))


def _borders(content: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each word starts and ends, in bytes."""
    inside = _word_bytes()[content]  # the last byte is a separator
    if int(content.max()) < 0x80:
        borders = np.flatnonzero(inside[1:] != inside[:-1]) + 1
        if inside[0]:
            borders = np.concatenate([[0], borders])
        return borders[0::2], borders[1::2]
    leads = np.flatnonzero(_lead_bytes()[content])
    first = content[leads]
    second = content[np.minimum(leads + 1, len(content) - 1)]
    third = content[np.minimum(leads + 2, len(content) - 1)]
    two, three = first < 0xE0, (first >= 0xE0) & (first < 0xF0)
    ends = leads + np.where(two, 2, np.where(three, 3, 4))
    separators = (first == 0xC2) | ((first == 0xE2) & (second <= 0x81)) | ((first == 0xE3) & (second == 0x80))
    separators |= (first == 0xE0) & (second == 0xA5) & ((third == 0xA4) | (third == 0xA5))
    for lead, behind in (sign.encode() for sign in _TWO_BYTES):
        separators |= (first == lead) & (second == behind)
    wide = ((second == 0xBC) & ((third <= 0x8F) | ((third >= 0x9A) & (third <= 0xA0)))) | (
        (second == 0xBD) & (third >= 0x9B) & (third <= 0xA5)
    )
    separators |= (first == 0xEF) & wide
    alone = (first >= 0xE3) & (first <= 0xE9) | (first >= 0xF0)
    alone |= (first == 0xE0) & (second >= 0xB8) & (second <= 0xBB)
    alone |= (first == 0xE1) & ((second <= 0x82) | (second == 0x9E) | (second == 0x9F))
    alone &= ~separators
    for behind in range(3):
        at = leads[separators] + behind
        inside[at[at < ends[separators]]] = False
    begins = inside.copy()
    begins[1:] &= ~inside[:-1]
    begins[leads[alone]] = True
    after = ends[alone]
    begins[after] |= inside[after]
    last = inside[:-1] & (~inside[1:] | begins[1:])
    return np.flatnonzero(begins), np.flatnonzero(last) + 1


@lru_cache(maxsize=1)
def _word_bytes() -> NDArray[np.bool_]:
    return np.array([byte >= 0x80 or chr(byte).isalnum() for byte in range(256)])


@lru_cache(maxsize=1)
def _lead_bytes() -> NDArray[np.bool_]:
    """Bytes after which a character may be no letter, or a word of its own."""
    of_two = {0xC2, *(sign.encode()[0] for sign in _TWO_BYTES)}
    return np.array([byte >= 0xE0 or byte in of_two for byte in range(256)])


@lru_cache(maxsize=2)
def _powers(length: int) -> tuple[Hashes, Hashes]:
    """Powers of the base and of its inverse, both ``(length,)``."""
    inverse = pow(_BASE, -1, 1 << 64)
    powers, inverses = (np.cumprod(np.full(length, base, np.uint64), dtype=np.uint64) for base in (_BASE, inverse))
    return powers, inverses
