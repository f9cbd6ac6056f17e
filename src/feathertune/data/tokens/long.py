"""Tokens to read from a text that is longer than the encoder's limit; `feathertune.records.Reading` names the ways.

Source: head-tail: Sun et al. 2019, How to Fine-Tune BERT for Text Classification?, arXiv:1905.05583, section 5.3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from feathertune.records import Reading

# Of the tokens of a text beside the special ones.
_HEAD_SHARE = 128 / 510

Span = tuple[int, int]


@dataclass(frozen=True)
class Cut:
    """The parts of one text that are read: token ids with special tokens, and the number of tokens in no sequence."""

    sequences: list[list[int]]
    n_unread: int


def cut(ids: Sequence[int], special: Sequence[int], *, max_length: int, reading: Reading, side: str = "right") -> Cut:
    """Cut a text of more than `max_length` tokens; `special` marks its special tokens, at both ends, by 1."""
    before, after = special.index(0), special[::-1].index(0)
    first, text, last = ids[:before], ids[before : len(ids) - after], ids[len(ids) - after :]
    read = spans(len(text), max_length - before - after, reading, side)
    sequences = [[*first, *(token for start, end in parts for token in text[start:end]), *last] for parts in read]
    return Cut(sequences, n_unread(len(text), read))


def spans(n: int, room: int, reading: Reading, side: str = "right") -> list[list[Span]]:
    """Choose the pieces of each sequence among `n` tokens, more than its `room`, both without special tokens."""
    if reading.long == "head-tail":
        head = max(1, round(room * _HEAD_SHARE))
        return [[(0, head), (n - room + head, n)]]
    n_windows = 1
    if reading.long == "windows":
        n_windows = min(1 - (room - n) // (room - reading.stride), reading.max_windows)
    if n_windows == 1:
        return [[(n - room, n) if side == "left" else (0, room)]]
    starts = [i * (n - room) // (n_windows - 1) for i in range(n_windows)]
    return [[(start, start + room)] for start in starts]


def n_unread(n: int, read: Sequence[Sequence[Span]]) -> int:
    """Count the tokens among `n` that are in no sequence."""
    reached = unread = 0
    for start, end in sorted(span for parts in read for span in parts):
        unread += max(0, start - reached)
        reached = max(reached, end)
    return unread + n - reached
