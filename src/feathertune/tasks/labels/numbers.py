"""Labels that are numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from feathertune.errors import ConfigError, DataError
from feathertune.records import TaskName
from feathertune.tasks.labels.kind import Classes, Indices, LabelKind, Labels, Rng
from feathertune.tasks.labels.stratify import even_draw, spread_order
from feathertune.tasks.labels.values import LARGEST, Label, LabelSet, number_of

# A single training row has no spread.
_LEAST_ROWS = 2
_STRATA = 10


class _NumberLabels(LabelKind):
    name: TaskName = "regression"
    numbers = True

    def read(self, value: object, where: str, separator: str | None) -> Label | None:
        missing = value is None or (isinstance(value, str) and not value.strip())
        if missing or (isinstance(value, float | np.floating) and math.isnan(value)):
            return None
        number = number_of(value)
        return math.nan if number is None else number

    def names_of(self, label: Label) -> LabelSet:
        return ()

    def classes(self, labels: Sequence[Label], order: tuple[str, ...] | None, column: str, source: str) -> Classes:
        if len(set(labels)) == 1:
            raise DataError(
                f"{source}: all {len(labels):,} training rows have the number {labels[0]}. Expected different "
                "numbers. Is the label column the right one?"
            )
        if np.ptp(self.encode(labels, ())) < 1 / LARGEST:
            raise DataError(
                f"{source}: the numbers of all training rows differ by less than {1 / LARGEST:g}. Multiply them "
                "by a large factor."
            )
        return (column,), []

    def encode(self, labels: Sequence[Label], names: Sequence[str]) -> Labels:
        return np.array(labels, np.float64)

    def require(self, labels: Labels, names: Sequence[str], least: int, why: str, source: str) -> None:
        if len(labels) < max(least, _LEAST_ROWS):
            raise DataError(f"{source}: too few rows ({len(labels):,}){why}. Add rows.")

    def n_spare(self, labels: Labels, keep: int) -> int:
        return len(labels) - keep

    def draw(self, labels: Labels, size: int, keep: int, first: bool, rng: Rng) -> Indices:
        return np.flatnonzero(even_draw(labels, size, rng=rng))

    def nested_order(self, labels: Labels, rng: Rng) -> Indices:
        ranks = np.argsort(np.argsort(labels, kind="stable"), kind="stable")
        return spread_order(ranks * _STRATA // len(labels), rng)

    def check_shots(self, labels: Labels, shots: int, names: Sequence[str]) -> None:
        raise ConfigError(
            f"--shots is {shots:,}, but the labels are numbers, so there are no classes to draw from. "
            "Pass a number of rows with --train-sizes instead."
        )


NUMBER_LABELS: LabelKind = _NumberLabels()
