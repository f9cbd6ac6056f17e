"""What a source says of a row's label: one name, a set of them, or a number.

The first row tells a set from a name, unless it was said before: a list is a set of labels, and so is a string with a
separator. Numbers are told from names by all rows together, where all are numbers and one has a fractional part: whole
numbers may be names of classes, and are taken for that unless it was said before. Not for indices: see
`feathertune.data.splitting.pool`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from feathertune.errors import DataError

# Of several labels each once, sorted; none is legal.
LabelSet = tuple[str, ...]
Label = str | LabelSet | float
TaskChoice = Literal["auto", "single_label", "multi_label", "regression"]
# Not all that Python takes for a number: neither nan and inf, nor 1_000, nor the digits of other scripts.
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


def names_of(label: Label) -> LabelSet:
    """The names, whether there is one or are several; of a number as Python writes it."""
    if isinstance(label, tuple):
        return label
    return (label,) if isinstance(label, str) else (repr(label),)


def are_sets(labels: Sequence[Label]) -> bool:
    """Whether the first label is a set; the others are of its kind."""
    return bool(labels) and isinstance(labels[0], tuple)


def are_numbers(labels: Sequence[Label]) -> bool:
    """Whether the first label is a number; the others are of its kind."""
    return bool(labels) and isinstance(labels[0], float)


def number_of(value: object) -> float | None:
    """A label as a number; None where it is no finite one."""
    if isinstance(value, str):
        value = float(value) if _NUMBER.fullmatch(value.strip()) else None
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number | Decimal):
        return None
    try:
        found = float(value)
    except (OverflowError, TypeError, ValueError):  # a whole number of 400 digits; a complex one
        return None
    return found if math.isfinite(found) else None


def all_numbers(names: Collection[str]) -> dict[str, float] | None:
    """The numbers that all of these names are; None where one is none, or where there is no name."""
    found = {name: number for name in names if (number := number_of(name)) is not None}
    return found if names and len(found) == len(names) else None


def has_fraction(numbers: Collection[float]) -> bool:
    """Whether one of these is no whole number."""
    return not all(number.is_integer() for number in numbers)


def indices_of(labels: Sequence[Label], names: Sequence[str], source: str) -> NDArray[Any]:
    """Labels as a bundle counts them.

    Args:
        labels: N labels, or sets of them, or numbers.
        names: Of the C classes, in their order; of numbers they do not matter.
        source: For messages.

    Returns:
        Class indices, ``(N,)`` int64; of sets ``(N, C)`` int8 of 0 and 1; numbers as they are, ``(N,)`` float64.

    Raises:
        DataError: If one has another name.
    """
    if are_numbers(labels):
        return np.array(labels, dtype=np.float64)
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
        members[row, [index[name] for name in names_of(label)]] = 1
    return members


class LabelReader:
    """Reads the labels of a source's rows, all as the first one is.

    Args:
        separator: Stands between the labels of a text; None where they are lists, or one a text.
        task: ``auto`` looks at the first row, and at the end (`as_numbers`) at all of them.
    """

    def __init__(self, separator: str | None = None, task: TaskChoice = "auto") -> None:
        self._separator = separator
        self._task = task
        self._sets: bool | None = {"auto": True if separator else None, "multi_label": True}.get(task, False)
        self._no_name: DataError | None = None  # of the first number that can be no name of a class

    def read(self, value: object, where: str) -> Label | None:
        """A label's name, the names, or its number; None where there is no label at all.

        Args:
            value: As the source gives it.
            where: The row, for messages.

        Returns:
            Where numbers were asked for, NaN for what is no finite number.

        Raises:
            DataError: If it cannot be a label, or is of another kind than those before.
        """
        if self._task == "regression":
            return _number_or_nan(value)
        listed = isinstance(value, list | tuple | set | np.ndarray)
        if self._sets is None:
            self._sets = listed
        if not self._sets:
            if listed:
                raise DataError(
                    f"{where}: the label is the list {value!r:.60}, but a text has one label here. Expected one name; "
                    "or lists in all rows; or --set data.task=multi_label."
                )
            return self._name(value, where) or None
        if listed:
            parts: list[Any] = list(value)  # type: ignore[call-overload]
        elif self._separator is not None:  # an empty cell is a text without labels
            parts = value.split(self._separator) if isinstance(value, str) else [] if value is None else [value]
        elif value is None:
            return None
        else:
            parts = [value]
        return tuple(sorted({name for part in parts if (name := label_name(part, where))}))

    def _name(self, value: object, where: str) -> str:
        """A label's name; that of a number with a fraction only until `as_numbers` knows what the others are."""
        try:
            return label_name(value, where)
        except DataError as error:
            if self._task != "auto" or (number := number_of(value)) is None:
                raise
            self._no_name = self._no_name or error
            return repr(number)

    def as_numbers(self, names: Collection[Label]) -> dict[str, float] | None:
        """What labels that were read by name are as numbers, where all of them are, and one has a fractional part.

        Args:
            names: The different ones of all rows.

        Returns:
            The numbers by name; None where they are names, sets, or read as numbers already.

        Raises:
            DataError: If they are names, but one was a number that can be none.
        """
        if self._task != "auto" or self._sets:
            return None
        found = all_numbers([name for name in names if isinstance(name, str)])
        if found is not None and has_fraction(found.values()):
            return found
        if self._no_name is not None:
            raise self._no_name
        return None


def _number_or_nan(value: object) -> float | None:
    """A number; NaN for what is none, None where there is no label."""
    missing = value is None or (isinstance(value, str) and not value.strip())
    if missing or (isinstance(value, float | np.floating) and math.isnan(value)):
        return None
    number = number_of(value)
    return math.nan if number is None else number


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
        "Expected a string, a whole number or a boolean; or numbers in all rows."
    )
