"""Kinds of label, and how each is read and split. Other code does not depend on the kind."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from feathertune.errors import DataError, isolated, shown
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


class LabelKind(Protocol):
    """Reading and splitting of one kind of label; messages name the `source`, or the row as `where`."""

    name: TaskName
    sets: bool = False
    numbers: bool = False

    def read(self, value: object, where: str, separator: str | None) -> Label | None:
        """Return a row's label, None if it is missing, NaN if it should be a number and is not."""

    def names_of(self, label: Label) -> LabelSet:
        """Return the class names of a label; none of a number."""

    def notes(self, labels: Sequence[Label]) -> tuple[str, ...]:
        """Return notes on all labels of a source."""
        return ()

    def classes(self, labels: Sequence[Label], order: tuple[str, ...] | None, column: str, source: str) -> Classes:
        """Return the classes of training labels, in the source's own `order`; raise a `DataError` for a single one."""

    def encode(self, labels: Sequence[Label], names: Sequence[str]) -> Labels:
        """Return labels as an array; an unknown name is -1, or left out of a set."""

    def require(self, labels: Labels, names: Sequence[str], least: int, why: str, source: str) -> None:
        """Raise a `DataError` if a class has fewer than `least` rows."""

    def n_spare(self, labels: Labels, keep: int) -> int:
        """Return the number of rows that can be drawn if `keep` rows of each class stay."""

    def draw(self, labels: Labels, size: int, keep: int, first: bool, rng: Rng) -> Indices:
        """Draw positions of a representative sample, ascending; if `first`, a class's only row is drawn."""

    def nested_order(self, labels: Labels, rng: Rng) -> Indices:
        """Return all positions, ordered so that every prefix is a representative sample."""

    def check_shots(self, labels: Labels, shots: int, names: Sequence[str]) -> None:
        """Raise a `ConfigError` if `shots` rows of each class cannot be drawn."""


def encode_known(kind: LabelKind, labels: Sequence[Label], names: Sequence[str], source: str) -> Labels:
    """Return labels as an array, in a bundle's order of classes; raise a `DataError` for a label not in `names`."""
    if unknown := sorted({name for label in labels for name in kind.names_of(label)} - set(names)):
        raise DataError(
            f"{source} has labels that the bundle was not trained on: {_some(unknown)}. Expected: {_some(names)}."
        )
    return kind.encode(labels, names)


def _some(names: Sequence[str]) -> str:
    return ", ".join([*map(shown, names[:_SHOWN]), *(["..."] if len(names) > _SHOWN else [])])


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
        them = "the class" if len(few) == 1 else "these classes"
        raise DataError(f"{source}: too few rows of {listed(few)}{why}. Add rows, or remove {them} from the data.")


def listed(counts: Mapping[str, int | None]) -> str:
    """List names for a message, with their counts if known."""
    items = list(counts.items())[:_SHOWN]
    first = [f"'{isolated(shown(name))}'" + ("" if n is None else f" ({n:,})") for name, n in items]
    return ", ".join(first) + (f", ... ({len(counts):,} in all)" if len(counts) > _SHOWN else "")
