"""Late fusion of a trained model and a word model: a sum of their logits with weights fitted to held-out rows.

The two models make different mistakes, so the sum is often better than either.
Sources: Wolpert 1992, Stacked generalization; for sums of logits Hinton 2002, Products of experts, section 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from feathertune.baselines.word_model import WordModel
from feathertune.data.reading.texts import Text
from feathertune.tasks import Labels, Task

Logits = NDArray[np.floating]

# Prior of the word model's share of the sum, after dividing each part by its spread. A share of 0 or 1 drops a part. A
# few hundred rows outweigh the prior; ten do not.
_SHARE, _SHARE_SD = 0.5, 0.25
# Prior of the logarithm of the sum's spread, centred at the parts' mean spread.
_SPREAD_SD = 0.5
_SPREADS = (0.02, 50.0)


@dataclass(frozen=True)
class Fusion:
    """Weights of the model's and the word model's logits."""

    model: float
    words: float

    def logits(self, model: Logits, words: Logits) -> Logits:
        """Return the fused logits ``(N, C)``; for numbers the fused numbers ``(N, 1)``."""
        return np.asarray(self.model * model + self.words * words)


@dataclass(frozen=True)
class FusedWords:
    """A word model, with the weights for adding its logits to those of a trained model."""

    words: WordModel
    fusion: Fusion

    def added(self, texts: Sequence[Text]) -> Logits:
        """Return the word model's weighted logits for N texts, ``(N, C)``."""
        return self.fusion.words * self.words.logits(texts)

    def logits(self, model: Logits, added: Logits) -> Logits:
        """Return the fused logits ``(N, C)`` from a model's logits and the result of `added`."""
        return np.asarray(self.fusion.model * model + added)


def fit_fusion(task: Task, labels: Labels, model: Logits, words: Logits) -> Fusion:
    """Return the weights with the largest posterior density, from rows that trained neither part.

    Args:
        task: Determines the likelihood. For numbers, both parts have the same unit, so the weights add up to 1.
        labels: Labels of N rows. Without labels the prior decides; the logits then only show the parts' spread.
        model: Logits ``(N, C)``.
        words: Logits ``(N, C)``.
    """
    likelihood = task.likelihood
    model, words = model.astype(np.float64), words.astype(np.float64)  # gradients use finite differences of 1e-8
    spreads = np.array([likelihood.spread(model), likelihood.spread(words)])
    usual = 0.0 if task.numbers else float(np.log(spreads.mean()))
    unit = 1.0
    if task.numbers and len(labels):  # squared errors in units of the better part's variance
        unit = min(likelihood.loss(labels, part) for part in (model, words)) * 2 / len(labels) or 1.0

    def weights(values: NDArray[np.float64]) -> Fusion:
        of_model, of_words = np.array([1 - values[0], values[0]]) * np.exp(values[1]) / spreads
        return Fusion(float(of_model), float(of_words))

    def lost(values: NDArray[np.float64]) -> float:
        of_prior = ((values[0] - _SHARE) / _SHARE_SD) ** 2 + ((values[1] - usual) / _SPREAD_SD) ** 2
        of_rows = likelihood.loss(labels, weights(values).logits(model, words)) / unit if len(labels) else 0.0
        return of_rows + 0.5 * float(of_prior)

    bounds = [(0.0, 1.0), (0.0, 0.0) if task.numbers else tuple(np.log(_SPREADS))]
    return weights(scipy.optimize.minimize(lost, [_SHARE, usual], method="L-BFGS-B", bounds=bounds).x)
