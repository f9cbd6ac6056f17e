"""Ridge regression that predicts each row from all others, in one decomposition: a probe without folds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Penalties, for rows with a mean squared length of 1.
PENALTIES = np.logspace(-6, 3, 19)
_LEAST = 1e-9


def leave_one_out(values: NDArray[np.floating], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each row's prediction ``(N, C)`` by a ridge regression of the other rows' targets ``(N, C)``.

    Values ``(N, D)`` are centred, not standardized. The penalty is the one with the least squared error of these
    predictions. Time grows with the cube of N.

    Source: Allen 1974, Technometrics 16, 125-127 (PRESS).
    """
    offset = np.asarray(values - values.mean(axis=0), np.float64)
    products = offset @ offset.T
    variances, axes = np.linalg.eigh(products / (products.trace() / len(values) or 1.0))
    variances = np.maximum(variances, 0.0)
    mean = targets.mean(axis=0)
    centred, along = targets - mean, axes.T @ (targets - mean)
    best, least = centred, np.inf
    for penalty in PENALTIES:
        kept = axes * (variances / (variances + penalty))
        own = (kept * axes).sum(axis=1) + 1 / len(values)  # the row's influence on its own prediction
        errors = (centred - kept @ along) / np.maximum(1 - own, _LEAST)[:, None]
        if (error := float((errors**2).mean())) < least:
            best, least = centred - errors, error
    return np.asarray(best + mean)
