"""Texts that stand in a data set more than once, told by a hash of each: which rows, with one label or several.

A hash has 64 bits under a key of its own in each process, so that two million different texts share one with a
probability of one in ten million. Not for texts that are only alike: that is `feathertune.quality.near`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Repeats:
    """The rows whose text stands there more than once, text by text, and each text's rows in their order.

    Attributes:
        rows: ``(M,)``.
        groups: The text of each, counted from 0, ``(M,)``.
        is_first: By row of all, whether it is usable and its text did not stand there before, ``(N,)``.
        contradicted: By text, whether its rows have several labels, ``(G,)``.
        first_split: By text, the first split in which it stands, in the order train, validation, test, ``(G,)``.
        last_split: By text, the last one, ``(G,)``.
    """

    rows: Rows
    groups: Rows
    is_first: NDArray[np.bool_]
    contradicted: NDArray[np.bool_]
    first_split: NDArray[np.int8]
    last_split: NDArray[np.int8]

    @property
    def n_repeated(self) -> int:
        """Rows whose text stood there before."""
        return len(self.rows) - len(self.contradicted)

    def first_where(self, wanted: NDArray[np.bool_]) -> Rows:
        """By row of `rows`, the first row of its text that is wanted, ``(M,)``; -1 where none is."""
        first = np.full(len(self.contradicted), -1, np.int64)
        # The last one that is written is the first one of all.
        first[self.groups[wanted][::-1]] = self.rows[wanted][::-1]
        return first[self.groups]

    def against(self, labels: NDArray[np.int32]) -> Rows:
        """By row of `rows`, the first row of its text with another label, ``(M,)``; -1 where none is."""
        first = self.first_rows()[self.groups]
        differs = labels[self.rows] != labels[first]
        return np.where(differs, first, self.first_where(differs))

    def first_rows(self) -> Rows:
        """The first row of each text, ``(G,)``."""
        return self.rows[np.flatnonzero(np.diff(self.groups, prepend=-1))]


def find_repeats(
    hashes: NDArray[np.int64], labels: NDArray[np.int32], splits: NDArray[np.int8], usable: NDArray[np.bool_]
) -> Repeats:
    """Find the rows that share a text.

    Args:
        hashes: Of the text of each row, ``(N,)``.
        labels: Any number for each label, ``(N,)``.
        splits: Numbers that rise from train to test, ``(N,)``.
        usable: Rows that take part, ``(N,)``.
    """
    candidates = np.flatnonzero(usable)
    order = candidates[np.argsort(hashes[candidates], kind="stable")]
    same = hashes[order][1:] == hashes[order][:-1]
    follows = np.concatenate([[False], same])[: len(order)]
    is_first = np.zeros(len(hashes), bool)
    is_first[order[~follows]] = True
    shared = follows | np.concatenate([same, [False]])[: len(order)]
    rows, begins = order[shared], np.flatnonzero(~follows[shared])
    if not len(rows):
        nothing, no_split = np.zeros(0, np.int64), np.zeros(0, np.int8)
        return Repeats(nothing, nothing, is_first, np.zeros(0, bool), no_split, no_split)
    groups = np.cumsum(~follows[shared]) - 1
    # Texts in the order of their first rows, whatever their hashes are in this process.
    order = np.lexsort((rows, rows[begins][groups]))
    rows = rows[order]
    begins = np.flatnonzero(np.diff(groups[order], prepend=-1))
    groups = np.repeat(np.arange(len(begins)), np.diff(begins, append=len(rows)))
    lowest, highest = (part.reduceat(labels[rows], begins) for part in (np.minimum, np.maximum))
    return Repeats(
        rows=rows,
        groups=groups,
        is_first=is_first,
        contradicted=lowest != highest,
        first_split=np.minimum.reduceat(splits[rows], begins),
        last_split=np.maximum.reduceat(splits[rows], begins),
    )
