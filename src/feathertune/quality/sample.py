"""A fair sample of texts from a stream whose length nobody knows: every row has the same chance, memory has a bound."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MOST_ROWS = 20_000
MOST_CHARACTERS = 40_000_000
_SEED = 7


class Sample:
    """Keeps the texts whose random numbers are the smallest.

    Args:
        seed: The same one gives the same rows, for the same stream.
        most_rows: That are kept.
        most_characters: That are kept in all: of long texts there are fewer.

    Attributes:
        n: Rows that were seen.
    """

    def __init__(self, seed: int, *, most_rows: int = MOST_ROWS, most_characters: int = MOST_CHARACTERS) -> None:
        self.n = 0
        self._rng = np.random.default_rng([_SEED, seed])
        self._most_rows, self._most_characters = most_rows, most_characters
        self._limit = 1.0
        self._kept: list[tuple[float, int, str]] = []
        self._characters = 0

    def add(self, texts: Sequence[str], rows: NDArray[np.int64]) -> None:
        """Take N texts.

        Args:
            texts: In the order of the stream.
            rows: Their numbers, ``(N,)``.
        """
        self.n += len(texts)
        drawn = self._rng.random(len(texts))
        for place in np.flatnonzero(drawn < self._limit).tolist():
            self._kept.append((float(drawn[place]), int(rows[place]), texts[place]))
            self._characters += len(texts[place])
        if len(self._kept) > 2 * self._most_rows or self._characters > 2 * self._most_characters:
            self._cut()

    def _cut(self) -> None:
        self._kept.sort(key=lambda kept: kept[0])
        lengths = np.cumsum([len(text) for _, _, text in self._kept])
        n = min(self._most_rows, max(1, int(np.searchsorted(lengths, self._most_characters, side="right"))))
        if n < len(self._kept):
            self._limit = self._kept[n][0]
            self._kept = self._kept[:n]
        self._characters = int(lengths[len(self._kept) - 1]) if self._kept else 0

    def finish(self) -> tuple[NDArray[np.int64], list[str]]:
        """The rows, rising, ``(S,)``, and their texts."""
        self._cut()
        kept = sorted(self._kept, key=lambda one: one[1])
        return np.array([row for _, row, _ in kept], np.int64), [text for _, _, text in kept]
