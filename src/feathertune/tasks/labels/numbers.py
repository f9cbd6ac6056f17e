"""Labels that are numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from feathertune.errors import ConfigError, DataError
from feathertune.tasks.labels.kind import Classes, Indices, LabelKind, Labels, Rng, no_notes
from feathertune.tasks.labels.stratify import even_draw, spread_order
from feathertune.tasks.labels.values import Label, LabelSet, number_of

# A single row to learn from has no spread.
_LEAST_ROWS = 2
_STRATA = 10


def _read(value: object, where: str, separator: str | None) -> Label | None:
    missing = value is None or (isinstance(value, str) and not value.strip())
    if missing or (isinstance(value, float | np.floating) and math.isnan(value)):
        return None
    number = number_of(value)
    return math.nan if number is None else number


def _names_of(label: Label) -> LabelSet:
    return ()


def _classes(labels: Sequence[Label], order: tuple[str, ...] | None, column: str, source: str) -> Classes:
    if len(set(labels)) == 1:
        raise DataError(
            f"{source}: all {len(labels):,} training rows have the number {labels[0]}. Expected different "
            "ones: is the label column the right one?"
        )
    return (column,), []


def _encode(labels: Sequence[Label], names: Sequence[str]) -> Labels:
    return np.array(labels, np.float64)


def _require(labels: Labels, names: Sequence[str], least: int, why: str, source: str) -> None:
    if len(labels) < max(least, _LEAST_ROWS):
        raise DataError(f"{source} has too few rows: {len(labels):,}{why}. Add rows.")


def _n_spare(labels: Labels, keep: int) -> int:
    return len(labels) - keep


def _draw(labels: Labels, size: int, keep: int, first: bool, rng: Rng) -> Indices:
    return np.flatnonzero(even_draw(labels, size, rng=rng))


def _nested_order(labels: Labels, rng: Rng) -> Indices:
    ranks = np.argsort(np.argsort(labels, kind="stable"), kind="stable")
    return spread_order(ranks * _STRATA // len(labels), rng)


def _check_shots(labels: Labels, shots: int, names: Sequence[str]) -> None:
    raise ConfigError(
        f"--shots is {shots:,}, but the label is a number here: there are no classes of which to draw so many rows "
        "each. Give --train-sizes a number of rows instead."
    )


NUMBER_LABELS = LabelKind(
    name="regression",
    read=_read,
    names_of=_names_of,
    notes=no_notes,
    classes=_classes,
    encode=_encode,
    require=_require,
    n_spare=_n_spare,
    draw=_draw,
    nested_order=_nested_order,
    check_shots=_check_shots,
    numbers=True,
)
