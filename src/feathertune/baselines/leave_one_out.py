"""Ridge regression that predicts each row from all others, in one decomposition: a probe without folds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Penalties, for values of which each row has a squared length of about 1.
PENALTIES = np.logspace(-4, 2, 13)
_LEAST = 1e-9


def leave_one_out(values: NDArray[np.floating], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each row's prediction ``(N, C)`` by a ridge regression of the other rows' targets ``(N, C)``.

    Values ``(N, D)`` are standardized. The penalty is the one with the least squared error of these predictions. Takes
    memory and time of N by N and N cubed, whatever D is.

    Source: Allen 1974, Technometrics 16, 125-127 (PRESS).
    """
    scaled = (values - values.mean(axis=0)) / (values.std(axis=0) + _LEAST) / np.sqrt(values.shape[1])
    variances, axes = np.linalg.eigh(np.asarray(scaled @ scaled.T, np.float64))
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
