"""Training losses: cross-entropy, optionally weighted by class, or the squared error for numbers.

A loss is a sum over texts. The engine divides it by a step's number of texts, regardless of their weights, so passes
and processes do not change it. Numbers are standardized, so that the learning rates of classes fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feathertune.config import TrainConfig
from feathertune.errors import ConfigError
from feathertune.tasks import MULTI_LABEL, Task
from feathertune.tasks.thresholds import LEAST_ROWS

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Objective:
    """A loss of logits and labels.

    Attributes:
        weights: Weights of the C classes, or of texts that have a label (``pos_weight``); None if all count alike.
        standard: Mean and standard deviation of the training numbers, to standardize them; None for classes.
    """

    weights: tuple[float, ...] | None = None
    standard: tuple[float, float] | None = None

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the sum over texts; with several labels per text, sum each text's mean, as in transformers.

        Logits ``(B, C)`` go with labels ``(B,)`` int64 or ``(B, C)`` of 0 and 1; scores ``(B, 1)`` with numbers.
        """
        from torch.nn import functional

        if self.standard is not None:
            mean, sd = self.standard
            return functional.mse_loss(logits[:, 0], ((labels - mean) / sd).to(logits.dtype), reduction="sum")
        weights = None if self.weights is None else logits.new_tensor(self.weights)
        if labels.dim() == 2:
            has = labels.to(logits.dtype)
            loss = functional.binary_cross_entropy_with_logits(logits, has, pos_weight=weights, reduction="sum")
            return loss / labels.shape[1]
        return functional.cross_entropy(logits, labels, weight=weights, reduction="sum")

    def in_unit(self, logits: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return a model's outputs ``(N, C)`` in the labels' unit; logits of classes as they are."""
        if self.standard is None:
            return logits
        mean, sd = self.standard
        return logits.astype(np.float64) * sd + mean

    def comparable(self, loss: float) -> float:
        """Return a score's `loss` in the unit of the training loss."""
        return loss if self.standard is None else loss / self.standard[1] ** 2


CROSS_ENTROPY = Objective()


def objective_of(settings: TrainConfig, labels: NDArray[Any], n_classes: int) -> Objective:
    """Return the objective for training labels ``(N,)`` or ``(N, C)``; a class that none or all of them have weighs 1.

    Source: King & Zeng 2001, Logistic regression in rare events data, as scikit-learn's ``balanced``.
    """
    if labels.dtype.kind == "f":
        # For equal numbers, as in the few rows of a learning curve, the scale does not matter.
        return Objective(standard=(float(labels.mean()), float(labels.std()) or 1.0))
    if settings.class_weights == "none":
        return CROSS_ENTROPY
    return Objective(weights=tuple(_balanced_weights(labels, n_classes).tolist()))


def check_fits(settings: TrainConfig, task: Task) -> None:
    """Raise a `ConfigError` for settings that have no meaning for the task."""
    for name in ("class_weights", "decision") if task.numbers else ():
        value = getattr(settings, name)
        if value != TrainConfig.model_fields[name].default:
            raise ConfigError(
                f"train.{name} is {value}, which applies to classes, but the labels are numbers here. Training "
                "minimizes the squared error, and all rows count alike. Leave it out."
            )
    if task is MULTI_LABEL and settings.decision == "moved":
        raise ConfigError(
            "train.decision is moved, but a text may have several labels here. Each label's threshold is fitted on "
            "validation rows anyway. Leave it out."
        )


def what_stays(settings: TrainConfig, validation_labels: NDArray[Any], names: Sequence[str]) -> list[str]:
    """Return a note on classes too rare for ``train.decision: moved``, if there are any."""
    if settings.decision != "moved":
        return []
    n_rows = np.bincount(validation_labels, minlength=len(names))
    few = [name for name, n in zip(names, n_rows, strict=True) if n < LEAST_ROWS]
    if not few:
        return []
    shown = ", ".join(few[:5]) + (f" and {len(few) - 5:,} more" if len(few) > 5 else "")
    return [
        f"The decision is not moved for {shown}: with fewer than {LEAST_ROWS} validation rows, no threshold is fitted."
    ]


def _balanced_weights(labels: NDArray[np.integer], n_classes: int) -> NDArray[np.float64]:
    """Return N / (C * n_c) of each of C classes that occur; for a label, rows without it over rows with it."""
    weights = np.ones(n_classes)
    if labels.ndim == 2:
        with_it = labels.sum(axis=0, dtype=np.int64)
        some = (with_it > 0) & (with_it < len(labels))
        weights[some] = (len(labels) - with_it[some]) / with_it[some]
        return weights
    from sklearn.utils.class_weight import compute_class_weight

    present = np.unique(labels)
    weights[present] = compute_class_weight("balanced", classes=present, y=labels)
    return weights
