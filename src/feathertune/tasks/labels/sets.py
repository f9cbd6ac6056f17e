"""Any number of labels a text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from feathertune.errors import ConfigError, DataError
from feathertune.tasks.labels.kind import Classes, Indices, LabelKind, Labels, Rng, in_order, listed, require_rows
from feathertune.tasks.labels.stratify import covering_rows, iterative_draw
from feathertune.tasks.labels.values import Label, LabelSet, is_list, label_name


def _read(value: object, where: str, separator: str | None) -> Label | None:
    if is_list(value):
        parts: Sequence[object] = list(value)  # type: ignore[call-overload]
    elif separator is not None:  # an empty cell is a text without labels
        parts = value.split(separator) if isinstance(value, str) else [] if value is None else [value]
    elif value is None:
        return None
    else:
        parts = [value]
    return tuple(sorted({name for part in parts if (name := label_name(part, where))}))


def _names_of(label: Label) -> LabelSet:
    assert isinstance(label, tuple), "labels of one source are of one kind"
    return label


def _notes(labels: Sequence[Label]) -> tuple[str, ...]:
    n_without = sum(not label for label in labels)
    return (f"A text may have several labels; {n_without:,} of {len(labels):,} have none.",)


def _classes(labels: Sequence[Label], order: tuple[str, ...] | None, column: str, source: str) -> Classes:
    found = {name for label in labels for name in _names_of(label)}
    if len(found) < 2:
        raise DataError(
            f"{source}: the {len(labels):,} training rows have {listed(dict.fromkeys(found)) or 'no label'}. "
            "Expected two labels at least: is the label column the right one, and the separator (--label-separator)?"
        )
    return in_order(found, order, source)


def _encode(labels: Sequence[Label], names: Sequence[str]) -> Labels:
    index = {name: i for i, name in enumerate(names)}
    members = np.zeros((len(labels), len(names)), np.int8)
    for row, label in enumerate(labels):
        members[row, [index[name] for name in _names_of(label) if name in index]] = 1
    return members


def _require(labels: Labels, names: Sequence[str], least: int, why: str, source: str) -> None:
    # A rare label cannot be in every split, and need not be: it is scored where it occurs.
    require_rows(labels.sum(axis=0, dtype=np.int64), names, 1, "", source)


def _n_spare(labels: Labels, keep: int) -> int:
    return len(labels) - bool(keep)


def _draw(labels: Labels, size: int, keep: int, first: bool, rng: Rng) -> Indices:
    return np.flatnonzero(iterative_draw(labels, size, rng=rng, first=first))


def _nested_order(labels: Labels, rng: Rng) -> Indices:
    order = rng.permutation(len(labels))
    first = covering_rows(labels, order)
    return np.concatenate([first, order[~np.isin(order, first)]])


def _check_shots(labels: Labels, shots: int, names: Sequence[str]) -> None:
    raise ConfigError(
        f"--shots is {shots:,}, but a text may have several of the labels here, so that just as many rows of "
        "each cannot be drawn. Give --train-sizes a number of rows instead."
    )


LABEL_SETS = LabelKind(
    name="multi_label",
    read=_read,
    names_of=_names_of,
    notes=_notes,
    classes=_classes,
    encode=_encode,
    require=_require,
    n_spare=_n_spare,
    draw=_draw,
    nested_order=_nested_order,
    check_shots=_check_shots,
    sets=True,
)
