"""Draw representative rows by class, by set of labels, or by number.

Source: for sets Sechidis, Tsoumakas & Vlahavas 2011, On the stratification of multi-label data, ECML PKDD, 145-158,
algorithm 1; for numbers Madow & Madow 1944, On the theory of systematic sampling, Ann. Math. Stat. 15, 1-24.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Members = NDArray[np.int8]
Indices = NDArray[np.int64]


def allocate(available: Indices, size: int, *, keep: int = 0) -> Indices:
    """Divide `size` rows among classes of `available` rows ``(C,)``, to within one row, leaving `keep` of each.

    If `size` allows it, each class gets at least one row, taken from the largest class.
    """
    share = available * (size / available.sum())
    most = available - keep
    least = np.full_like(available, size >= len(available))
    counts: Indices = np.clip(np.floor(share).astype(np.int64), least, most)
    while counts.sum() < size:
        counts[np.argmax(np.where(counts < most, share - counts, -np.inf))] += 1
    while counts.sum() > size:
        counts[np.argmax(np.where(counts > least, counts - share, -np.inf))] -= 1
    return counts


def spread_order(classes: Indices, rng: np.random.Generator) -> Indices:
    """Order all rows so that every prefix has the classes ``(N,)`` in proportion; one row of each comes first."""
    place = np.empty(len(classes))
    for name in np.unique(classes):
        rows = rng.permutation(np.flatnonzero(classes == name))
        place[rows] = (np.arange(len(rows)) + rng.random()) / len(rows)
        place[rows[0]] -= 1.0
    return np.argsort(place, kind="stable")


def iterative_draw(members: Members, size: int, *, rng: np.random.Generator, first: bool) -> NDArray[np.bool_]:
    """Draw `size` of N rows so that every label of `members` ``(N, C)`` is drawn in proportion; return a mask ``(N,)``.

    Rare labels come first: rows of the label with the fewest rows left go, one by one, to the side that lacks it most.
    If `first`, a label with a single row goes to the rows drawn, not to the rest.
    """
    n = len(members)
    wanted_rows = np.array([n - size, size], dtype=np.int64)  # 0 is the rest, 1 the rows drawn
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
            # The side that lacks the label most; at a tie, the one that lacks most rows.
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


def covering_rows(members: Members, order: Indices) -> Indices:
    """Return at most C rows that cover every label of ``(N, C)`` at least once, the earliest in `order` first."""
    seen = np.zeros(members.shape[1], dtype=bool)
    chosen = []
    for row in order:
        fresh = (members[row] > 0) & ~seen
        if fresh.any():
            chosen.append(int(row))
            seen |= fresh
    return np.array(chosen, dtype=np.int64)


def even_draw(numbers: NDArray[np.float64], size: int, *, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw `size` rows at even distances along the order of their numbers ``(N,)``; return a mask ``(N,)``."""
    order = rng.permutation(len(numbers))
    order = order[np.argsort(numbers[order], kind="stable")]
    drawn = np.zeros(len(numbers), dtype=np.bool_)
    if size:
        # Steps of N / size are at least one row long; whole numbers do not round.
        drawn[order[(np.arange(size) * len(numbers) + rng.integers(len(numbers))) // size]] = True
    return drawn
