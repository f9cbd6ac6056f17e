"""What a trained method has to beat where labels are numbers: their mean, and ridge regression.

The functions are those behind `feathertune.baselines.linear`, which hands over what it counted or what the frozen
encoder read. Not for classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

# From the strongest penalty to the weakest: counted words have unit length, frozen features a spread of 1 each.
_PENALTIES = (10_000.0, 1_000.0, 100.0, 10.0, 1.0, 0.1)
_FOLDS = 5


def is_number(labels: np.ndarray) -> bool:
    """Whether labels are numbers, ``(N,)`` floats."""
    return labels.dtype.kind == "f"


def best_ridge(
    inputs: Mapping[str, Any], labels: np.ndarray, validation: Mapping[str, Any], validation_labels: np.ndarray
) -> tuple[Any, dict[str, Any]]:
    """Fit each input at each penalty; the smallest squared error wins, then the stronger penalty.

    Args:
        inputs: ``(N, D)`` by name, sparse or dense.
        labels: ``(N,)``.
        validation: Likewise; where there are none, the error is that on rows held out by cross-validation over the
            training rows, and all rows are fitted.
        validation_labels: ``(V,)``.

    Returns:
        scikit-learn's model, and what was chosen: ``input`` and ``alpha``.

    Source: Hoerl & Kennard 1970, Ridge regression: biased estimation for nonorthogonal problems, Technometrics 12, 55.
    """
    choices = [(name, alpha) for name in inputs for alpha in _PENALTIES]
    if len(validation_labels):
        errors = [
            _squared_error(_ridge(inputs[name], labels, alpha), validation[name], validation_labels)
            for name, alpha in choices
        ]
    else:
        errors = [_held_out_error(inputs[name], labels, alpha) for name, alpha in choices]
    name, alpha = choices[int(np.argmin(errors))]
    return _ridge(inputs[name], labels, alpha), {"input": name, "alpha": alpha}


def _held_out_error(values: Any, labels: np.ndarray, alpha: float) -> float:  # noqa: ANN401 - sparse or dense
    from sklearn.model_selection import KFold

    folds = KFold(min(_FOLDS, len(labels)), shuffle=True, random_state=0).split(labels)
    errors = [
        len(held) * _squared_error(_ridge(values[rest], labels[rest], alpha), values[held], labels[held])
        for rest, held in folds
    ]
    return sum(errors) / len(labels)


def _squared_error(model: Any, values: Any, labels: np.ndarray) -> float:  # noqa: ANN401
    return float(((model.predict(values) - labels) ** 2).mean())


def _ridge(values: Any, labels: np.ndarray, alpha: float) -> Any:  # noqa: ANN401 - sparse or dense
    from sklearn.linear_model import Ridge

    return Ridge(alpha=alpha).fit(values, labels)
