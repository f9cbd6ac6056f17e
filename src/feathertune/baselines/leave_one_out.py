"""Leave-one-out ridge regression in one decomposition: a probe without folds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Penalties for rows with a mean squared length of 1. Smaller ones fit directions of tiny variance, which a short
# training does not use, and ranked base models much worse. Any minimum from 0.003 to 0.1 works (benchmarks/LOG.md).
PENALTIES = np.logspace(-2, 3, 21)
_LEAST = 1e-9


def leave_one_out(values: NDArray[np.floating], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each row's prediction ``(N, C)`` from a ridge regression on the other rows' targets ``(N, C)``.

    Targets are centred; values ``(N, D)`` are neither centred nor standardized. The penalty minimizes the squared error
    of these predictions. Time grows with the cube of N.

    Source: Allen 1974, Technometrics 16, 125-127 (PRESS).
    """
    rows = np.asarray(values, np.float64)
    products = rows @ rows.T
    variances, axes = np.linalg.eigh(products / (products.trace() / len(rows) or 1.0))
    variances = np.maximum(variances, 0.0)
    mean = targets.mean(axis=0)
    centred, along = targets - mean, axes.T @ (targets - mean)
    best, least = centred, np.inf
    for penalty in PENALTIES:
        kept = axes * (variances / (variances + penalty))
        own = (kept * axes).sum(axis=1)  # the row's influence on its own prediction
        errors = (centred - kept @ along) / np.maximum(1 - own, _LEAST)[:, None]
        if (error := float((errors**2).mean())) < least:
            best, least = centred - errors, error
    return np.asarray(best + mean)
