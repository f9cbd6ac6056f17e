"""One label per text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from feathertune.errors import ConfigError, DataError, shown
from feathertune.records import TaskName
from feathertune.tasks.labels.kind import Classes, Indices, LabelKind, Labels, Rng, in_order, require_rows
from feathertune.tasks.labels.stratify import allocate, spread_order
from feathertune.tasks.labels.values import Label, LabelSet, is_list, label_name


class _ClassLabels(LabelKind):
    name: TaskName = "single_label"

    def read(self, value: object, where: str, separator: str | None) -> Label | None:
        if is_list(value):
            raise DataError(
                f"{where}: the label is the list {value!r:.60}, but each text has one label here. Expected one name, "
                "or lists in all rows. For several labels per text, pass --set data.task=multi_label."
            )
        return label_name(value, where) or None

    def names_of(self, label: Label) -> LabelSet:
        return (str(label),)

    def classes(self, labels: Sequence[Label], order: tuple[str, ...] | None, column: str, source: str) -> Classes:
        found = set(map(str, labels))
        if len(found) == 1:
            raise DataError(
                f"{source}: all {len(labels):,} training rows have the label '{shown(found.pop())}'. "
                "Expected at least two classes. Is the label column the right one?"
            )
        return in_order(found, order, source)

    def encode(self, labels: Sequence[Label], names: Sequence[str]) -> Labels:
        index = {name: i for i, name in enumerate(names)}
        return np.fromiter((index.get(str(label), -1) for label in labels), np.int64, len(labels))

    def require(self, labels: Labels, names: Sequence[str], least: int, why: str, source: str) -> None:
        require_rows(np.bincount(labels, minlength=len(names)), names, least, why, source)

    def n_spare(self, labels: Labels, keep: int) -> int:
        return int((np.unique(labels, return_counts=True)[1] - keep).sum())

    def draw(self, labels: Labels, size: int, keep: int, first: bool, rng: Rng) -> Indices:
        counts = np.unique(labels, return_counts=True)[1]
        order = rng.permutation(len(labels))
        by_class = np.split(order[np.argsort(labels[order], kind="stable")], np.cumsum(counts)[:-1])
        taken = [rows[:n] for rows, n in zip(by_class, allocate(counts, size, keep=keep), strict=True)]
        return np.sort(np.concatenate(taken))

    def check_shots(self, labels: Labels, shots: int, names: Sequence[str]) -> None:
        counts = np.bincount(labels, minlength=len(names))
        if counts.min() < shots:
            fewest = int(counts.argmin())
            raise ConfigError(
                f"--shots is {shots:,}, but the class '{names[fewest]}' has only {counts[fewest]:,} training rows. "
                f"Pass {counts[fewest]:,} or fewer."
            )

    def nested_order(self, labels: Labels, rng: Rng) -> Indices:
        return spread_order(labels, rng)


CLASS_LABELS: LabelKind = _ClassLabels()
