"""A probe of layers and words: ridge regression on each layer's mean states, fused with the word model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from feathertune.baselines.fusion import FusedWords, fit_fusion
from feathertune.baselines.word_model import WordModel
from feathertune.tasks import Task
from feathertune.tasks.linear_models import Fitted, Rows

Floats = NDArray[np.float32]

# Penalties for rows with a mean squared length of 1. Few rows need no smaller one.
_PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
_USUAL_PENALTY = 1.0
_LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class _LayerProbe:
    """Ridge regression on standardized values, with parameters ``(D,)``, ``(D,)``, ``(D, C)`` and ``(C,)``."""

    centre: Floats
    spread: Floats
    weights: Floats
    intercept: Floats

    def logits(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return logits ``(N, C)`` for values ``(N, D)``; for numbers, the predicted numbers."""
        return np.asarray(((values - self.centre) / self.spread).astype(np.float32) @ self.weights + self.intercept)


def fit_stack(rows: Rows) -> Fitted:
    """Fit both parts to the training rows, and the weights of their sum to the validation rows.

    Inputs are ``layers`` ``(N, K D)`` and ``texts``. Ridge regression has a closed form.
    Sources: Evci et al. 2022 (Head2Toe), arXiv:2201.03529; Wolpert 1992.
    """
    of_texts = replace(
        rows, inputs=rows.inputs["texts"], validation=rows.validation["texts"] if rows.validation else []
    )
    words, chosen = WordModel.fit(of_texts)
    probe, penalty = _fit_layers(rows)
    seen = rows.validation or rows.inputs  # without validation rows, these only show the spread of both parts
    parts = probe.logits(seen["layers"]), words.logits(seen["texts"])
    fused = FusedWords(words, fit_fusion(rows.task, rows.validation_labels, *parts))

    def predict(inputs: Mapping[str, Any]) -> NDArray[np.float64]:
        return rows.task.probabilities(fused.logits(probe.logits(inputs["layers"]), fused.added(inputs["texts"])))

    n_parameters = probe.weights.size + probe.intercept.size + words.n_parameters
    return Fitted(
        predict, int(n_parameters), {**chosen, **rows.weighted, "ridge_alpha": penalty, "fusion": vars(fused.fusion)}
    )


def _fit_layers(rows: Rows) -> tuple[_LayerProbe, float]:
    """Return the probe whose penalty has the smallest squared error on validation rows, and that penalty."""
    values = np.asarray(rows.inputs["layers"], np.float32)
    centre, spread = values.mean(axis=0), (values.std(axis=0) + _LEAST_SPREAD) * np.float32(np.sqrt(values.shape[1]))
    scaled = (values - centre) / spread
    targets = _targets(rows.task, rows.labels, rows.n_classes)
    weights = _row_weights(rows)
    intercept = np.average(targets, axis=0, weights=weights).astype(np.float32)
    weighted = scaled * weights[:, None]
    products, along = weighted.T @ scaled, weighted.T @ (targets - intercept)

    def probe(penalty: float) -> _LayerProbe:
        penalized = products + np.float32(penalty) * np.eye(len(products), dtype=np.float32)
        return _LayerProbe(centre, spread, scipy.linalg.solve(penalized, along, assume_a="pos"), intercept)

    if not len(rows.validation_labels):
        return probe(_USUAL_PENALTY), _USUAL_PENALTY
    held_out = _targets(rows.task, rows.validation_labels, rows.n_classes)
    probes = [probe(penalty) for penalty in _PENALTIES]
    errors = [float(np.square(one.logits(rows.validation["layers"]) - held_out).mean()) for one in probes]
    best = int(np.argmin(errors))
    return probes[best], _PENALTIES[best]


def _row_weights(rows: Rows) -> Floats:
    """Return row weights ``(N,)``; with several labels per text, all rows have the same weight."""
    if rows.weighted and rows.labels.ndim == 1:
        from sklearn.utils.class_weight import compute_sample_weight

        return np.asarray(compute_sample_weight("balanced", rows.labels), np.float32)
    return np.ones(len(rows.labels), np.float32)


def _targets(task: Task, labels: NDArray[Any], n_classes: int) -> Floats:
    """Return regression targets ``(N, C)``: numbers, or 1 for a text's labels and -1 for the others."""
    targets = task.linear.targets(labels, n_classes)
    return np.asarray(targets if task.numbers else 2 * targets - 1, np.float32)
