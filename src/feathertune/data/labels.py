"""What a source says of a row's label: one name, or a set of them.

The first row tells which, unless it was said before: a list is a set of labels, and so is a string with a separator.
Not for indices: see `feathertune.data.pool`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from feathertune.errors import DataError

# Of several labels each once, sorted; none is legal.
LabelSet = tuple[str, ...]
Label = str | LabelSet
TaskChoice = Literal["auto", "single_label", "multi_label"]


def names_of(label: Label) -> LabelSet:
    """The names, whether there is one or are several."""
    return (label,) if isinstance(label, str) else label


def are_sets(labels: Sequence[Label]) -> bool:
    """Whether the first label is a set; the others are of its kind."""
    return bool(labels) and not isinstance(labels[0], str)


def indices_of(labels: Sequence[Label], names: Sequence[str], source: str) -> NDArray[np.integer]:
    """Labels as a bundle counts them.

    Args:
        labels: N labels, or sets of them.
        names: Of the C classes, in their order.
        source: For messages.

    Returns:
        Class indices, ``(N,)`` int64; of sets ``(N, C)`` int8 of 0 and 1.

    Raises:
        DataError: If one has another name.
    """
    index = {name: i for i, name in enumerate(names)}
    if unknown := sorted({name for label in labels for name in names_of(label)} - set(index)):
        raise DataError(
            f"{source} holds the labels {', '.join(unknown[:5])}, which the bundle does not know. "
            f"Expected: {', '.join(names)}."
        )
    if not are_sets(labels):
        return np.array([index[str(label)] for label in labels], dtype=np.int64)
    members = np.zeros((len(labels), len(names)), dtype=np.int8)
    for row, label in enumerate(labels):
        members[row, [index[name] for name in label]] = 1
    return members


class LabelReader:
    """Reads the labels of a source's rows, all as the first one is.

    Args:
        separator: Stands between the labels of a text; None where they are lists, or one a text.
        task: ``auto`` looks at the first row.
    """

    def __init__(self, separator: str | None = None, task: TaskChoice = "auto") -> None:
        self._separator = separator
        self._sets: bool | None = {"auto": True if separator else None, "single_label": False, "multi_label": True}[
            task
        ]

    def read(self, value: object, where: str) -> Label | None:
        """A label's name, or the names; None where there is no label at all.

        Args:
            value: As the source gives it.
            where: The row, for messages.

        Raises:
            DataError: If it cannot be a label, or is of another kind than those before.
        """
        listed = isinstance(value, list | tuple | set | np.ndarray)
        if self._sets is None:
            self._sets = listed
        if not self._sets:
            if listed:
                raise DataError(
                    f"{where}: the label is the list {value!r:.60}, but a text has one label here. Expected one name; "
                    "or lists in all rows; or --set data.task=multi_label."
                )
            return label_name(value, where) or None
        if listed:
            parts: list[Any] = list(value)  # type: ignore[call-overload]
        elif self._separator is not None:  # an empty cell is a text without labels
            parts = value.split(self._separator) if isinstance(value, str) else [] if value is None else [value]
        elif value is None:
            return None
        else:
            parts = [value]
        return tuple(sorted({name for part in parts if (name := label_name(part, where))}))


def label_name(label: object, where: str) -> str:
    """A label's name; empty where there is none.

    Args:
        label: As a source gives it.
        where: The row, for messages.

    Raises:
        DataError: If it is of a type that cannot be a label.
    """
    if isinstance(label, str):
        return label.strip()
    if isinstance(label, bool | np.bool_):
        return "true" if label else "false"
    if isinstance(label, int | np.integer):
        return str(int(label))
    if label is None or (isinstance(label, float) and math.isnan(label)):
        return ""
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    if isinstance(label, Decimal) and label == int(label):
        return str(int(label))
    raise DataError(
        f"{where}: the label is {label!r:.60} of type {type(label).__name__}. "
        "Expected a string, a whole number or a boolean."
    )
