"""Any number of labels per text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from feathertune.errors import ConfigError, DataError
from feathertune.records import TaskName
from feathertune.tasks.labels.kind import Classes, Indices, LabelKind, Labels, Rng, in_order, listed, require_rows
from feathertune.tasks.labels.stratify import covering_rows, iterative_draw
from feathertune.tasks.labels.values import Label, LabelSet, is_list, label_name


class _LabelSets(LabelKind):
    name: TaskName = "multi_label"
    sets = True

    def read(self, value: object, where: str, separator: str | None) -> Label | None:
        if is_list(value):
            parts: Sequence[object] = list(value)  # type: ignore[call-overload]
        elif separator is not None:  # an empty cell is a text without labels
            parts = value.split(separator) if isinstance(value, str) else [] if value is None else [value]
        elif value is None:
            return None
        else:
            parts = [value]
        return tuple(sorted({name for part in parts if (name := label_name(part, where))}))

    def names_of(self, label: Label) -> LabelSet:
        assert isinstance(label, tuple), "labels of one source are of one kind"
        return label

    def notes(self, labels: Sequence[Label]) -> tuple[str, ...]:
        n_without = sum(not label for label in labels)
        return (f"A text may have several labels; {n_without:,} of {len(labels):,} have none.",)

    def classes(self, labels: Sequence[Label], order: tuple[str, ...] | None, column: str, source: str) -> Classes:
        found = {name for label in labels for name in self.names_of(label)}
        if len(found) < 2:
            raise DataError(
                f"{source}: the {len(labels):,} training rows have {listed(dict.fromkeys(found)) or 'no label'}. "
                "Expected at least two labels. Check the label column and the separator (--label-separator)."
            )
        return in_order(found, order, source)

    def encode(self, labels: Sequence[Label], names: Sequence[str]) -> Labels:
        index = {name: i for i, name in enumerate(names)}
        members = np.zeros((len(labels), len(names)), np.int8)
        for row, label in enumerate(labels):
            members[row, [index[name] for name in self.names_of(label) if name in index]] = 1
        return members

    def require(self, labels: Labels, names: Sequence[str], least: int, why: str, source: str) -> None:
        # A rare label cannot be in every split, and need not be: it is scored where it occurs.
        require_rows(labels.sum(axis=0, dtype=np.int64), names, 1, "", source)

    def n_spare(self, labels: Labels, keep: int) -> int:
        return len(labels) - bool(keep)

    def draw(self, labels: Labels, size: int, keep: int, first: bool, rng: Rng) -> Indices:
        return np.flatnonzero(iterative_draw(labels, size, rng=rng, first=first))

    def nested_order(self, labels: Labels, rng: Rng) -> Indices:
        order = rng.permutation(len(labels))
        first = covering_rows(labels, order)
        return np.concatenate([first, order[~np.isin(order, first)]])

    def check_shots(self, labels: Labels, shots: int, names: Sequence[str]) -> None:
        raise ConfigError(
            f"--shots is {shots:,}, but a text may have several labels here, so an equal number of rows per label "
            "cannot be drawn. Pass a number of rows with --train-sizes instead."
        )


LABEL_SETS: LabelKind = _LabelSets()
