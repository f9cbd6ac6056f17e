"""One kind of label as a value.

`feathertune.tasks.labels.classes`, `multi_label` and `regression` hold the three kinds. Other code in `data` calls
the functions of a kind and never asks which kind it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feathertune.errors import DataError, isolated
from feathertune.records import TaskName
from feathertune.tasks.labels.values import Label, LabelSet

# ``(N,)`` int64 class indices, ``(N, C)`` int8 of 0 and 1, or ``(N,)`` float64 numbers.
Labels = NDArray[Any]
Indices = NDArray[np.int64]
Rng = np.random.Generator
# Class names in the order of their indices, and notes on them.
Classes = tuple[tuple[str, ...], list[str]]
_SHOWN = 10
_WHOLE = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True)
class LabelKind:
    """What reading and splitting do for one kind of label.

    Attributes:
        name: The name in settings and records.
        read: ``(value, where, separator)``: a row's label, None if it is missing, NaN if it should be a number and is
            not. Raises a `DataError` that names the row.
        names_of: The class names of a label; empty for a number.
        notes: Notes on all labels of a source.
        classes: ``(labels, order, column, source)``: the classes of the training rows' labels. `order` is the source's
            own order, if it states one. Raises a `DataError` if the labels are all the same.
        encode: ``(labels, names)``: an array. An unknown name is -1, or left out of a set.
        require: ``(labels, names, least, why, source)``: raises a `DataError` if a class has fewer than `least` rows.
        n_spare: ``(labels, keep)``: rows that can be drawn if `keep` rows of each class stay.
        draw: ``(labels, size, keep, first, rng)``: `size` positions, ascending, that represent all rows. `first`: a
            class with one row goes to the rows drawn, not to the rest.
        nested_order: ``(labels, rng)``: all positions, in an order whose every beginning represents all rows.
        check_shots: ``(labels, shots, names)``: raises a `ConfigError` if `shots` rows of each class cannot be drawn.
    """

    name: TaskName
    read: Callable[[object, str, str | None], Label | None]
    names_of: Callable[[Label], LabelSet]
    notes: Callable[[Sequence[Label]], tuple[str, ...]]
    classes: Callable[[Sequence[Label], tuple[str, ...] | None, str, str], Classes]
    encode: Callable[[Sequence[Label], Sequence[str]], Labels]
    require: Callable[[Labels, Sequence[str], int, str, str], None]
    n_spare: Callable[[Labels, int], int]
    draw: Callable[[Labels, int, int, bool, Rng], Indices]
    nested_order: Callable[[Labels, Rng], Indices]
    check_shots: Callable[[Labels, int, Sequence[str]], None]
    sets: bool = False
    numbers: bool = False

    def encode_known(self, labels: Sequence[Label], names: Sequence[str], source: str) -> Labels:
        """Return labels as an array, in a bundle's order of classes.

        Raises:
            DataError: If a label is not among `names`.
        """
        if unknown := sorted({name for label in labels for name in self.names_of(label)} - set(names)):
            raise DataError(
                f"{source} holds the labels {', '.join(unknown[:5])}, which the bundle does not know. "
                f"Expected: {', '.join(names)}."
            )
        return self.encode(labels, names)


def no_notes(labels: Sequence[Label]) -> tuple[str, ...]:
    """Return no notes."""
    return ()


def in_order(found: set[str], order: tuple[str, ...] | None, source: str) -> Classes:
    """Sort class names in the source's own order, else as whole numbers, else by name."""
    if order is not None:
        unused = dict.fromkeys(name for name in order if name not in found)
        notes = [f"No training row has these labels of {source}: {listed(unused)}."] if unused else []
        return tuple(name for name in order if name in found), notes
    if all(_WHOLE.fullmatch(name) for name in found):
        return tuple(sorted(found, key=lambda name: (int(name), name))), []
    return tuple(sorted(found)), []


def require_rows(counts: Indices, names: Sequence[str], least: int, why: str, source: str) -> None:
    """Raise a `DataError` for classes with fewer than `least` rows; `counts` is ``(C,)``."""
    few = {name: int(n) for name, n in zip(names, counts, strict=True) if n < least}
    if few:
        raise DataError(
            f"{source}: a class has too few rows: {listed(few)}{why}. "
            "Add rows of it, or take the class out of the data."
        )


def listed(counts: Mapping[str, int | None]) -> str:
    """List names for a message, with their counts if known."""
    shown = [f"'{isolated(name)}'" + ("" if n is None else f" ({n:,})") for name, n in counts.items()]
    return ", ".join(shown[:_SHOWN]) + (f", ... ({len(shown)} in all)" if len(shown) > _SHOWN else "")
