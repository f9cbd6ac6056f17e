"""Drawing rows with several labels each, so that every label is drawn in its proportion; and rows with a number each.

Rare labels go first: of the labels that still have rows to give, the one with the fewest is served, row by row, to the
side that wants it most. Plain drawing leaves rare labels out of a split altogether. Of numbers every so-manieth in
their order is drawn, so that the drawn ones lie as all do. Not for one label a row: there
`feathertune.data.splitting.pool.allocate` is exact.

Source: Sechidis, Tsoumakas & Vlahavas 2011, On the stratification of multi-label data, ECML PKDD, 145-158, algorithm 1;
for numbers Madow & Madow 1944, On the theory of systematic sampling, Ann. Math. Stat. 15, 1-24.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Members = NDArray[np.int8]


def iterative_draw(members: Members, size: int, *, rng: np.random.Generator, first: bool) -> NDArray[np.bool_]:
    """Divide rows into those that are drawn and the rest.

    Args:
        members: Which label each row has, ``(N, C)`` of 0 and 1.
        size: Rows to draw, at most N.
        rng: Breaks ties.
        first: Whether those drawn get a row of each label before the rest does, or the other way round: a label that
            has a single row goes there.

    Returns:
        Whether each row is drawn, ``(N,)``, true `size` times.
    """
    n = len(members)
    wanted_rows = np.array([n - size, size], dtype=np.int64)  # 0 is the rest, 1 what is drawn
    counts = members.sum(axis=0, dtype=np.int64)
    wanted = np.outer(wanted_rows / max(1, n), counts)  # (2, C)
    lacks = np.zeros((2, members.shape[1]), dtype=bool)
    lacks[int(first)] = counts > 0
    side = np.full(n, -1, dtype=np.int8)
    order = rng.permutation(n)
    rows_of = [order[members[order, label] > 0] for label in range(members.shape[1])]
    labels_of = [np.flatnonzero(row) for row in members]
    left = counts.copy()

    def give(row: int, label: int | None) -> None:
        open_sides = wanted_rows > 0
        if label is None:
            keys = wanted_rows.astype(np.float64)
        elif (lacks[:, label] & open_sides).any():
            keys = lacks[:, label].astype(np.float64)
        else:
            # What is wanted of the label, and at a tie how many rows are.
            keys = wanted[:, label] + wanted_rows / (1e6 * max(1, n))
        chosen = int(np.where(open_sides, keys, -np.inf).argmax())
        side[row] = chosen
        wanted_rows[chosen] -= 1
        mine = labels_of[row]
        wanted[chosen, mine] -= 1
        lacks[chosen, mine] = False
        left[mine] -= 1

    while (left > 0).any():
        label = int(np.where(left > 0, left, np.iinfo(np.int64).max).argmin())
        for row in rows_of[label]:
            if side[row] < 0:
                give(int(row), label)
    for row in order[side[order] < 0]:  # rows without any label
        give(int(row), None)
    drawn: NDArray[np.bool_] = side == 1
    return drawn


def covering_rows(members: Members, order: NDArray[np.int64]) -> NDArray[np.int64]:
    """A few rows that hold every label at least once, the earliest of `order` first.

    Args:
        members: ``(N, C)`` of 0 and 1.
        order: All rows.

    Returns:
        Rows, at most C.
    """
    seen = np.zeros(members.shape[1], dtype=bool)
    chosen = []
    for row in order:
        fresh = (members[row] > 0) & ~seen
        if fresh.any():
            chosen.append(int(row))
            seen |= fresh
    return np.array(chosen, dtype=np.int64)


def even_draw(numbers: NDArray[np.float64], size: int, *, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw rows at even distances along the order of their numbers; each with the same probability.

    Args:
        numbers: ``(N,)``.
        size: Rows to draw, at most N.
        rng: Decides where to begin, and the order of rows with equal numbers.

    Returns:
        Whether each row is drawn, ``(N,)``, true `size` times.
    """
    order = rng.permutation(len(numbers))
    order = order[np.argsort(numbers[order], kind="stable")]
    drawn = np.zeros(len(numbers), dtype=np.bool_)
    if size:
        # Steps of N / size, one at least, so that no two end in the same row; in whole numbers, which do not round.
        drawn[order[(np.arange(size) * len(numbers) + rng.integers(len(numbers))) // size]] = True
    return drawn
