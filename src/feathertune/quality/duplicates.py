"""Texts that occur more than once, found by a 64-bit hash of each text.

Two million different texts share a hash with a probability of one in ten million.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Duplicates:
    """The M rows whose text occurs more than once, grouped by text; arrays are ``(M,)`` unless noted."""

    rows: Rows
    is_first: NDArray[np.bool_]  # (N,): True for a usable row whose text has not occurred before
    contradicted: NDArray[np.bool_]  # the text has several labels
    overlapping: NDArray[np.bool_]  # the text is also in a later split
    kept: Rows  # the first row of the text in its last split
    against: Rows  # the first row of the text with another label; -1 if none
    first_split: NDArray[np.int8]
    last_split: NDArray[np.int8]

    @property
    def n_repeated(self) -> int:
        """Number of rows whose text occurred before."""
        return int((~self.is_first[self.rows]).sum())

    def n_texts(self, chosen: NDArray[np.bool_]) -> int:
        """Return the number of different texts among chosen rows; choose all rows of a text or none."""
        return int((self.is_first[self.rows] & chosen).sum())


def find_duplicates(
    hashes: Rows, labels: NDArray[np.int32], splits: NDArray[np.int8], usable: NDArray[np.bool_]
) -> Duplicates:
    """Find usable rows that share a text hash; all arrays are ``(N,)``, and splits ascend from train to test."""
    compared = np.flatnonzero(usable)
    _, first, groups, counts = np.unique(hashes[compared], return_index=True, return_inverse=True, return_counts=True)
    is_first = np.zeros(len(hashes), bool)
    is_first[compared[first]] = True
    repeated = counts[groups] > 1
    rows, begins_at = compared[repeated], first[groups[repeated]]
    # Order texts by their first rows, because hashes differ between processes.
    order = np.lexsort((rows, begins_at))
    rows = rows[order]
    begins = np.flatnonzero(is_first[rows])
    groups = np.cumsum(is_first[rows]) - 1

    def by_row(reduce: np.ufunc, values: NDArray[Any]) -> NDArray[Any]:
        """Reduce the values of each text's rows, and repeat the result for each of them."""
        return np.asarray(reduce.reduceat(values, begins)[groups]) if len(begins) else values

    def first_where(wanted: NDArray[np.bool_]) -> Rows:
        """Return the first wanted row of each row's text; -1 if none."""
        found = np.full(len(begins), -1, np.int64)
        found[groups[wanted][::-1]] = rows[wanted][::-1]  # the last assignment wins
        return found[groups]

    last_split = by_row(np.maximum, splits[rows])
    first_rows = rows[begins][groups]
    differs = labels[rows] != labels[first_rows]
    return Duplicates(
        rows=rows,
        is_first=is_first,
        contradicted=by_row(np.logical_or, differs),
        overlapping=splits[rows] < last_split,
        kept=first_where(splits[rows] == last_split),
        against=np.where(differs, first_rows, first_where(differs)),
        first_split=by_row(np.minimum, splits[rows]),
        last_split=last_split,
    )
