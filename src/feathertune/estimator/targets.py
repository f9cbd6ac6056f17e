"""Read y as scikit-learn does: one label per text, or several as lists or an indicator matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.preprocessing import MultiLabelBinarizer
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets, is_multilabel

from feathertune.errors import DataError

_SHOWN = 5


@dataclass(frozen=True)
class Targets:
    """Sorted labels, or a matrix's columns, ``(C,)``; class indices ``(N,)``, or an indicator matrix ``(N, C)``."""

    classes: np.ndarray
    codes: NDArray[np.int64]


def read_targets(y: Any, texts: Sequence[object]) -> Targets:  # noqa: ANN401 - any y of scikit-learn
    """Read the labels of N texts, in any form that `TextClassifier.fit` accepts."""
    found = _matrix(y) or _lists(y)
    if found is None:
        check_classification_targets(y)
        targets = check_array(column_or_1d(y, warn=True), ensure_2d=False, dtype=None, input_name="y")
        check_consistent_length(texts, targets)
        classes, codes = np.unique(targets, return_inverse=True)
        if len(classes) < 2:
            raise DataError(f"All {len(texts):,} texts have the same class, {classes[0]!r}. Expected at least two.")
        return Targets(classes, codes)
    check_consistent_length(texts, found.codes)
    if len(found.classes) < 2:
        has = f"the label {found.classes.tolist()[0]!r} or none" if len(found.classes) else "no label"
        raise DataError(f"All {len(found.codes):,} texts have {has}. Expected at least two labels.")
    if nobody := [str(found.classes[i]) for i in np.flatnonzero(found.codes.sum(axis=0) == 0)]:
        more = f" and {len(nobody) - _SHOWN:,} more" if len(nobody) > _SHOWN else ""
        raise DataError(f"No text has the label {', '.join(nobody[:_SHOWN])}{more}. Remove columns of y without a 1.")
    return found


def members_of(y: Any, classes: np.ndarray) -> Any:  # noqa: ANN401 - any y of scikit-learn
    """Return lists of labels as an indicator matrix ``(N, C)`` in the order of `classes`; single labels unchanged."""
    found = _matrix(y)
    if found is not None and len(found.classes) != len(classes):
        raise DataError(f"y has {len(found.classes)} columns. Expected {len(classes)}, one per label.")
    if found is not None and getattr(y, "columns", None) is None:
        return found.codes
    found = found or _lists(y)
    if found is None:
        return y
    place = {label: index for index, label in enumerate(classes.tolist())}
    if unknown := [label for label in found.classes.tolist() if label not in place]:
        raise DataError(
            f"y contains the labels {', '.join(map(str, unknown[:_SHOWN]))}, which were not in the training data. "
            f"Expected: {', '.join(map(str, place))}."
        )
    members = np.zeros((len(found.codes), len(classes)), np.int64)
    members[:, [place[label] for label in found.classes.tolist()]] = found.codes
    return members


def _matrix(y: Any) -> Targets | None:  # noqa: ANN401 - any y of scikit-learn
    """Read an indicator matrix; None if `y` is not one."""
    columns = getattr(y, "columns", None)
    names = [] if columns is None else list(columns)
    if len(set(names)) < len(names):
        raise DataError(f"Two columns of y have the same name: {', '.join(map(str, names))}. Expected one per label.")
    if not is_multilabel(y):
        return None
    members = y.toarray() if issparse(y) else np.asarray(y)
    if not np.isin(members, (0, 1)).all():
        raise DataError(
            f"y is an array of shape {members.shape} with the values {', '.join(map(str, np.unique(members)))}. "
            "Expected 0 and 1."
        )
    classes = np.arange(members.shape[1]) if columns is None else np.array(names)
    return Targets(classes, members.astype(np.int64))


def _lists(y: Any) -> Targets | None:  # noqa: ANN401 - any y of scikit-learn
    """Read lists of labels; None if `y` contains no lists."""
    rows = y if isinstance(y, list | tuple) else y.tolist() if getattr(y, "ndim", 0) == 1 else []
    listed = [isinstance(row, list | tuple | set | frozenset | np.ndarray) for row in rows]
    if not any(listed):
        return None
    if not all(listed):
        other = listed.index(not listed[0])
        raise DataError(
            f"y[0] is {rows[0]!r:.60}, but y[{other}] is {rows[other]!r:.60}. Expected a label in every row, or a list "
            "of labels in every row, which may be empty."
        )
    sets = [_labels(row, number) for number, row in enumerate(rows)]
    try:
        labels = sorted(set().union(*sets))
    except TypeError:
        raise DataError("y contains labels of several types. Expected a single type, e.g. strings.") from None
    return Targets(np.array(labels), MultiLabelBinarizer(classes=labels).fit_transform(sets).astype(np.int64))


def _labels(row: Any, number: int) -> set[Any]:  # noqa: ANN401 - a list of anything
    found = set()
    for given in row:
        label = given.item() if isinstance(given, np.generic) else given
        if not isinstance(label, str | int):  # a boolean is an int
            raise DataError(
                f"y[{number}] contains {label!r:.60} of type {type(label).__name__}. Expected strings, integers or "
                "booleans."
            )
        found.add(label)
    return found
