"""Labels as values: a class name, a set of names, or a number."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from decimal import Decimal
from typing import Literal

import numpy as np

from feathertune.errors import DataError

# Sorted, each name once; may be empty.
LabelSet = tuple[str, ...]
Label = str | LabelSet | float
TaskChoice = Literal["auto", "single_label", "multi_label", "regression"]
# Squared errors of larger numbers overflow.
LARGEST = 1e30
_LONGEST_NAME = 1_000  # characters
# Narrower than Python's float(): no nan, no inf, no 1_000, no digits of other scripts.
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


def number_of(value: object) -> float | None:
    """Return a label as a finite number, or None."""
    if isinstance(value, str):
        value = float(value) if _NUMBER.fullmatch(value.strip()) else None
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number | Decimal):
        return None
    try:
        found = float(value)
    except (OverflowError, TypeError, ValueError):  # an integer of 400 digits; a complex number
        return None
    return found if math.isfinite(found) else None


def all_numbers(names: Collection[str]) -> dict[str, float] | None:
    """Return the number of each name; None if a name is not a number, or if there are no names."""
    found = {name: number for name in names if (number := number_of(name)) is not None}
    return found if names and len(found) == len(names) else None


def has_fraction(numbers: Collection[float]) -> bool:
    """Return True if a number is not a whole number."""
    return not all(number.is_integer() for number in numbers)


def is_list(value: object) -> bool:
    """Return True for a list of labels, as opposed to one label."""
    return isinstance(value, list | tuple | set | np.ndarray)


def unique_text(label: Label) -> str:
    """Return a text for fingerprints. Names in a set carry their lengths, so two sets never share a text."""
    return "".join(f"{len(name)}:{name}" for name in label) if isinstance(label, tuple) else str(label)


def label_name(label: object, where: str) -> str:
    """Return a label's name; empty if it is missing. Raise a `DataError` if its type cannot be a label."""
    if isinstance(label, str):
        if len(label) > _LONGEST_NAME:
            raise DataError(
                f"{where}: the label has {len(label):,} characters. Expected at most {_LONGEST_NAME:,}. Is the label "
                "column the right one?"
            )
        return label.strip()
    if isinstance(label, bool | np.bool_):
        return "true" if label else "false"
    if isinstance(label, int | np.integer):
        return str(int(label))
    if label is None or (isinstance(label, float) and math.isnan(label)):
        return ""
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    if isinstance(label, Decimal) and label.is_finite() and label == int(label):
        return str(int(label))
    raise DataError(
        f"{where}: the label is {label!r:.60} of type {type(label).__name__}. "
        "Expected a string, a whole number or a boolean, or numbers in all rows."
    )
