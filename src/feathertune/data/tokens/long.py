"""Which tokens of a text are read where it has more than an encoder takes at once. Plain numbers, no torch.

* ``head``: the first ones (the last ones, where a tokenizer cuts on its left side).
* ``head-tail``: the first and the last ones, 128 to 382 of each 510. Source: Sun et al. 2019, "How to Fine-Tune BERT
  for Text Classification?", arXiv:1905.05583, section 5.3.1.
* ``windows``: several pieces, each as long as one pass takes, evenly spaced, the first at the beginning and the last at
  the end of the text. No window is short, since each counts the same in the mean of the logits. Where a text has more
  than fit into ``max_windows``, they lie further apart, and what lies between them is not read.

Not for pairs of texts, whose special tokens stand in the middle.
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
    """What is read of one text.

    Attributes:
        sequences: Token ids, special tokens included; several for windows.
        n_unread: Tokens that are in none of them.
    """

    sequences: list[list[int]]
    n_unread: int


def cut(ids: Sequence[int], special: Sequence[int], *, max_length: int, reading: Reading, side: str = "right") -> Cut:
    """Cut a text that is too long.

    Args:
        ids: All its tokens, more than `max_length`, special tokens around them.
        special: 1 where the tokenizer has put a special token, else 0.
        max_length: Tokens of a sequence, special tokens included.
        reading: How.
        side: The side on which ``head`` cuts.
    """
    before, after = special.index(0), special[::-1].index(0)
    first, text, last = ids[:before], ids[before : len(ids) - after], ids[len(ids) - after :]
    read = spans(len(text), max_length - before - after, reading, side)
    sequences = [[*first, *(token for start, end in parts for token in text[start:end]), *last] for parts in read]
    return Cut(sequences, n_unread(len(text), read))


def spans(n: int, room: int, reading: Reading, side: str = "right") -> list[list[Span]]:
    """Which tokens of a text go into each sequence.

    Args:
        n: Tokens of the text without special ones, more than `room`.
        room: Of those in one sequence.
        reading: How.
        side: The side on which ``head`` cuts.

    Returns:
        For each sequence the pieces of the text that it is made of, ascending.
    """
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
    """How many of a text's `n` tokens are in no sequence."""
    reached = unread = 0
    for start, end in sorted(span for parts in read for span in parts):
        unread += max(0, start - reached)
        reached = max(reached, end)
    return unread + n - reached
