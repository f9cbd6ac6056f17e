"""Training losses: cross-entropy, weighted by class if asked for; of numbers the squared error.

Made once from settings and labels, by `objective_of`; where nothing was asked for, the loss is that of transformers, to
the bit. It is the sum over texts, and the engine divides it by the number of a step's texts whatever their weights, so
that neither passes nor processes change it. (torch's own mean divides by the sum of a batch's weights; balanced weights
are 1 on average over the training rows, so both are of one size.)

Numbers are standardised by the training rows' mean and standard deviation, so that learning rates are those of classes
whatever the unit. A model that is trained so gives standard scores; `feathertune.engine.training.regression_head` puts
the unit into it.

Not for how labels are decided: the model, its logits and probabilities are used as they are (`feathertune.tasks`).
With balanced weights, these probabilities are no longer those of the data.
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
        weights: By which the loss of a class's texts is multiplied, ``C`` of them; where a text may have several
            labels, that of the texts which have the label (``pos_weight``). None: all count alike.
        standard: Of numbers the mean and the standard deviation of the training rows; the loss is the squared error of
            their standard scores. None: labels are classes.
    """

    weights: tuple[float, ...] | None = None
    standard: tuple[float, float] | None = None

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The sum over texts, a scalar; of several labels a text their mean, as transformers has it.

        Args:
            logits: ``(B, C)``; of numbers their standard scores, ``(B, 1)``.
            labels: Class indices ``(B,)`` int64; which labels each text has, ``(B, C)`` of 0 and 1; or numbers ``(B,)``
                float64.
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
        """What a model that lowers this gives, ``(N, C)``, in the unit of the labels: logits of classes as they are."""
        if self.standard is None:
            return logits
        mean, sd = self.standard
        return logits.astype(np.float64) * sd + mean

    def comparable(self, loss: float) -> float:
        """A loss that scores have (`Metrics.loss`, `NumberMetrics.loss`) in the unit of the training's own."""
        return loss if self.standard is None else loss / self.standard[1] ** 2


CROSS_ENTROPY = Objective()


def objective_of(settings: TrainConfig, labels: NDArray[Any], n_classes: int) -> Objective:
    """Return the objective of a training.

    A class that no training row has gets the weight 1: its logit is lowered as in plain cross-entropy. So does a label
    that all rows have, or none.

    Args:
        settings: Its ``class_weights``.
        labels: Of the training rows, ``(N,)``, or ``(N, C)`` if a text may have several; floats if they are numbers,
            which need no setting.
        n_classes: All classes, also those that the rows lack.

    Source: King & Zeng 2001, Logistic regression in rare events data, as scikit-learn's ``balanced``.
    """
    if labels.dtype.kind == "f":
        # Of equal numbers, as a few rows of a learning curve may have, the scale does not matter.
        return Objective(standard=(float(labels.mean()), float(labels.std()) or 1.0))
    if settings.class_weights == "none":
        return CROSS_ENTROPY
    return Objective(weights=tuple(_balanced_weights(labels, n_classes).tolist()))


def check_fits(settings: TrainConfig, task: Task) -> None:
    """Refuse settings that mean nothing where a text may have several labels, or where the label is a number.

    Raises:
        ConfigError: If there are such.
    """
    if task.name == "regression":
        _refuse_classes(settings)
    if task is not MULTI_LABEL:
        return
    if settings.decision == "moved":
        raise ConfigError(
            "train.decision is moved, but a text may have several labels here: each has a threshold that is fitted on "
            "validation rows anyway. Leave it out."
        )


def _refuse_classes(settings: TrainConfig) -> None:
    given = {
        "class_weights": (settings.class_weights, "none"),
        "decision": (settings.decision, "largest"),
    }
    for name, (value, default) in given.items():
        if value != default:
            raise ConfigError(
                f"train.{name} is {value}, which is about classes, but the label is a number here: a training lowers "
                "the squared error, and all rows count alike. Leave it out."
            )


def what_stays(settings: TrainConfig, validation_labels: NDArray[Any], names: Sequence[str]) -> list[str]:
    """Which classes are too rare for a moved decision that was asked for, as a sentence; nothing where none is."""
    if settings.decision != "moved":
        return []
    n_rows = np.bincount(validation_labels, minlength=len(names))
    few = [name for name, n in zip(names, n_rows, strict=True) if n < LEAST_ROWS]
    if not few:
        return []
    shown = ", ".join(few[:5]) + (f" and {len(few) - 5:,} more" if len(few) > 5 else "")
    return [
        f"The decision is not moved for {shown}: fewer than {LEAST_ROWS} validation rows say nothing of where to cut."
    ]


def _balanced_weights(labels: NDArray[np.integer], n_classes: int) -> NDArray[np.float64]:
    """Of each class N / (C * n_c), C the number of those that are there; of a label, rows without over rows with it."""
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
