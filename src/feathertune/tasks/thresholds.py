"""Fit thresholds of probabilities on validation rows, whose own scores then become slightly optimistic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Threshold before any is fitted, and for a label with too few validation rows.
THRESHOLD = 0.5
# Fewest validation rows of a label to which a threshold is fitted.
LEAST_ROWS = 3
# Smallest distance of a threshold from 0 and 1, where a logit would be infinite.
_EDGE = 1e-6
# Smallest probability, so that one can be divided by another.
_FLOOR = 1e-12
# Most rounds over the classes, which stop early if no class gains; and the smallest gain that counts.
_ROUNDS, _GAIN = 5, 1e-9


def fit_f1_thresholds(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return each label's minimum probability, ``(C,)``, with the best F1 on validation rows ``(N, C)``.

    It is halfway between the two probabilities around the best cut, the higher cut if two are equally good; 0.5 for a
    label with fewer than `LEAST_ROWS` rows or equal probabilities.

    Source: Yang 2001, SIGIR, 137-145 (SCut); F1 as in Fan & Lin 2007, A study on threshold selection.
    """
    values = np.asarray(probabilities, np.float64)
    found = np.full(labels.shape[1], THRESHOLD)
    for label in np.flatnonzero(labels.sum(axis=0) >= LEAST_ROWS):
        order = np.argsort(-values[:, label], kind="stable")
        p, right = values[order, label], np.cumsum(labels[order, label])
        below = np.append(p[1:], 0.0)
        f1 = np.where(p > below, 2 * right / (np.arange(1, len(p) + 1) + right[-1]), -1.0)
        if p[0] > p[-1]:
            best = int(f1.argmax())
            found[label] = (p[best] + below[best]) / 2
    clipped: NDArray[np.float64] = np.clip(found, _EDGE, 1 - _EDGE)
    return clipped


def fit_macro_f1_thresholds(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating]
) -> NDArray[np.float64] | None:
    """Return divisors ``(C,)`` of the probabilities with the best macro F1 on validation rows; None without a gain.

    Dividing is weighting by the inverse. One weight at a time, the rarest class's first, moves to the best of all
    values at which a row changes its class, until no class gains (coordinate ascent). For two classes, this finds the
    best of all cuts. The most frequent class, and those with fewer than `LEAST_ROWS` rows, keep their weights. Divisors
    sum to 1.

    Source: thresholds that divide: Collell et al. 2018, Neurocomputing 275, 330-340, there the classes' shares.
    """
    values = np.maximum(np.asarray(probabilities, np.float64), _FLOOR)
    n_rows = np.bincount(labels, minlength=values.shape[1])
    by_rows = np.argsort(n_rows, kind="stable")[:-1]
    movable = [int(label) for label in by_rows if n_rows[label] >= LEAST_ROWS]
    weights, race = np.ones(values.shape[1]), _Race(values)
    for _ in range(_ROUNDS):
        gained = False
        for label in movable:
            found = _better_weight(labels, race, values[:, label], label, float(weights[label]))
            if found is not None:
                weights[label], gained = found, True
                race.change(label, found * values[:, label])
        if not gained:
            break
    if (weights == 1).all():
        return None
    thresholds: NDArray[np.float64] = 1 / weights / (1 / weights).sum()
    return thresholds


class _Race:
    """Weighted probabilities ``(N, C)``, and each row's two leading classes; a change re-examines few rows."""

    def __init__(self, values: NDArray[np.float64]) -> None:
        self._values = values.copy()
        self.n_classes = values.shape[1]
        self._first = np.zeros(len(values), np.int64)
        self._second = np.zeros(len(values), np.int64)
        self._look(np.arange(len(values)))

    def change(self, label: int, column: NDArray[np.float64]) -> None:
        self._values[:, label] = column
        beats = column > self._values[np.arange(len(column)), self._second]
        self._look(np.flatnonzero(beats | (self._first == label) | (self._second == label)))

    def without(self, label: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the class that leads if one is left out, and its value, ``(N,)`` each."""
        rival = np.where(self._first == label, self._second, self._first)
        return rival, self._values[np.arange(len(rival)), rival]

    def _look(self, rows: NDArray[np.int64]) -> None:
        part, at = self._values[rows], np.arange(len(rows))
        self._first[rows] = first = part.argmax(axis=1)
        part[at, first] = -1.0
        self._second[rows] = part.argmax(axis=1)


def _better_weight(
    labels: NDArray[np.integer], race: _Race, own: NDArray[np.float64], label: int, weight: float
) -> float | None:
    """Return the weight of one class with the best macro F1 while all others stay; None if `weight` already has it."""
    rival, needed = race.without(label)
    # A row goes to the class as soon as the weight is above this.
    needed = needed / own
    order = np.argsort(needed, kind="stable")
    needed, rival, truth = needed[order], rival[order], labels[order]
    n_rows = np.bincount(labels, minlength=race.n_classes)
    taken = np.arange(len(labels) + 1)
    hits = np.concatenate([[0], np.cumsum(truth == label)])
    gain = np.concatenate([[0.0], np.cumsum(_lost(truth, rival, n_rows))]) + 2 * hits / (taken + n_rows[label])
    # Rows that need the same weight go together.
    apart = np.concatenate([[True], needed[1:] > needed[:-1] * (1 + _GAIN), [True]])
    now = int(np.searchsorted(needed, weight))
    best = float(gain[apart].max())
    if best <= gain[now] + _GAIN:
        return None
    edges = np.concatenate([[needed[0] / 4], needed, [needed[-1] * 4]])
    between = np.sqrt(edges[:-1] * edges[1:])  # halfway, in logits
    cuts = between[apart & (gain >= best - _GAIN)]
    return float(cuts[np.abs(np.log(cuts / weight)).argmin()])


def _lost(truth: NDArray[np.integer], rival: NDArray[np.integer], n_rows: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the change in F1 of each row's class `rival` as rows are taken from it in turn; `n_rows` is ``(C,)``."""
    by_class = np.argsort(rival, kind="stable")
    classes, right = rival[by_class], (truth == rival)[by_class].astype(np.int64)
    first = np.searchsorted(classes, classes)  # where the rows of the same class begin
    all_right = np.bincount(classes, weights=right, minlength=len(n_rows))
    right_before = all_right[classes] - (np.cumsum(right) - right - (np.cumsum(right) - right)[first])
    given_before = np.bincount(classes, minlength=len(n_rows))[classes] - (np.arange(len(classes)) - first)
    rows = n_rows[classes]
    after = 2 * (right_before - right) / np.maximum(given_before - 1 + rows, 1)
    lost = np.empty(len(truth))
    lost[by_class] = after - 2 * right_before / np.maximum(given_before + rows, 1)
    return lost
