"""What is looked for in the usable texts of each block, in this process or in one beside it.

Numpy needs Python's lock between its steps, so that a thread beside the reader of rows is slower than none: it is a
process, where the file is large enough to pay for its start. Not for what needs the other rows' labels or splits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from feathertune.quality.near import Sketches
from feathertune.quality.oddities import Oddities
from feathertune.quality.words import words_of
from feathertune.quality.worker import process_beside

_MARKUP = ("<br", "</", "&amp;", "&lt;", "&nbsp;", "&quot;")
_AHEAD = 4  # blocks that wait for the other process

Repaired = list[tuple[int, str]]


@dataclass
class Look:
    """What was seen in all texts.

    Attributes:
        n_marked: Texts that hold markup.
    """

    sketches: Sketches = field(default_factory=Sketches)
    oddities: Oddities = field(default_factory=Oddities)
    n_marked: int = 0

    def add(self, texts: Sequence[str], rows: NDArray[np.int64], broken: Repaired) -> Repaired:
        """Look at N texts.

        Args:
            texts: That can be used.
            rows: Their numbers, rising from one call to the next, ``(N,)``.
            broken: Rows that cannot be used as they are, and their texts.

        Returns:
            Rows whose text can be repaired, with the repaired text; empty where nothing is left.
        """
        repaired = self.oddities.add(texts, rows)
        for row, text in broken:
            repaired += self.oddities.look(text, row)
        if texts:
            self.sketches.add(words_of(texts), rows)
            joined = "\0".join(texts)
            if marks := [mark for mark in _MARKUP if mark in joined]:
                self.n_marked += sum(any(mark in text for mark in marks) for text in texts)
        return repaired


class Looker(Protocol):
    """Takes blocks, and has seen them all in the end."""

    def add(self, texts: Sequence[str], rows: NDArray[np.int64], broken: Repaired) -> Repaired:
        """As `Look.add`; what is given back may be of earlier blocks."""
        ...

    def finish(self) -> tuple[Look, Repaired]:
        """What was seen, and what was not given back yet."""
        ...


@contextmanager
def looker(*, beside: bool) -> Iterator[Looker]:
    """Somebody who looks at texts.

    Args:
        beside: Whether in a process beside this one, where there can be one: see `feathertune.quality.worker`.
    """
    if not beside:
        yield _Here()
        return
    with process_beside(_begin) as pool:
        yield _Here() if pool is None else _Beside(pool)


class _Here:
    def __init__(self) -> None:
        self._look = Look()

    def add(self, texts: Sequence[str], rows: NDArray[np.int64], broken: Repaired) -> Repaired:
        return self._look.add(texts, rows, broken)

    def finish(self) -> tuple[Look, Repaired]:
        return self._look, []


class _Beside:
    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool
        self._waiting: deque[Future[Repaired]] = deque()

    def add(self, texts: Sequence[str], rows: NDArray[np.int64], broken: Repaired) -> Repaired:
        # One long string costs a tenth of many short ones on their way; usable texts have no null bytes.
        self._waiting.append(self._pool.submit(_add, "\0".join(texts), rows, broken))
        return self._waiting.popleft().result() if len(self._waiting) > _AHEAD else []

    def finish(self) -> tuple[Look, Repaired]:
        rest = [one for future in self._waiting for one in future.result()]
        return self._pool.submit(_finish).result(), rest


# The other process has one of it, made when it starts.
_LOOKS: list[Look] = []


def _begin() -> None:
    _LOOKS.append(Look())


def _add(joined: str, rows: NDArray[np.int64], broken: Repaired) -> Repaired:
    return _LOOKS[0].add(joined.split("\0") if len(rows) else [], rows, broken)


def _finish() -> Look:
    return _LOOKS[0]
