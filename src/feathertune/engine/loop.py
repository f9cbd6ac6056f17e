"""The one training loop: for adapters, a head alone or all weights. What moves is what has ``requires_grad``.

`Training.events` is a generator, so its caller draws the progress, writes the log and may stop at any step. Each epoch
ends with the validation set; the best state of the trained parameters is kept in memory and restored by
`Training.restore_best`. The test set is not known here.

Losses are summed over an optimizer step and divided by its examples, so the token budget, which only says how a step
is cut into passes, does not change what is learned beyond rounding.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from feathertune.config import TrainConfig
from feathertune.data.batching import plan_steps
from feathertune.engine.optim import make_optimizer, rate_factor, trained_parameters
from feathertune.engine.predict import Texts, predict_logits, softmax
from feathertune.errors import RunFailedError
from feathertune.metrics import score
from feathertune.records import Metrics
from feathertune.runtime import Runtime


@dataclass(frozen=True)
class StepInfo:
    """One optimizer step; `loss` is the mean over its examples, `n_tokens` counts no padding."""

    step: int
    epoch: int
    loss: float
    learning_rate: float
    n_examples: int
    n_tokens: int
    seconds: float


@dataclass(frozen=True)
class EpochInfo:
    """The end of an epoch: mean training loss, the validation scores, and whether this state is the best so far."""

    epoch: int
    train_loss: float
    validation: Metrics
    validation_probabilities: np.ndarray
    is_best: bool
    seconds: float


@dataclass(frozen=True)
class Labelled:
    """Encoded texts and their classes ``(N,)`` int64."""

    texts: Texts
    labels: np.ndarray


class Training:
    """One training of one model.

    Args:
        model: The prepared model; it is moved to the runtime's device.
        train: N training examples.
        validation: For early stopping and the choice of the best epoch.
        settings: Epochs, batch, schedule, patience.
        learning_rate: The method's.
        seed: Of the order of the examples. Dropout draws from torch's global generator.
        runtime: Device and number format.
    """

    def __init__(
        self,
        model: nn.Module,
        train: Labelled,
        validation: Labelled,
        *,
        settings: TrainConfig,
        learning_rate: float,
        seed: int,
        runtime: Runtime,
    ) -> None:
        self.model = model.to(runtime.device)
        self.best: EpochInfo | None = None
        self.epochs_done = 0
        self.steps_done = 0
        self.examples_seen = 0
        self.tokens_seen = 0
        self._train, self._validation = train, validation
        self._settings, self._seed, self._runtime = settings, seed, runtime
        self._learning_rate = learning_rate
        self._optimizer = make_optimizer(model, learning_rate=learning_rate, weight_decay=settings.weight_decay)
        self._best_state: list[torch.Tensor] = []

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""
        return -(-len(self._train.texts) // self._settings.batch_size)

    def events(self) -> Iterator[StepInfo | EpochInfo]:
        """Train; yield after each step and each epoch.

        Raises:
            RunFailedError: If a loss is not finite; the parameters are those before that step.
        """
        epochs_without_gain = 0
        for epoch in range(1, self._settings.epochs + 1):
            start = time.perf_counter()
            loss_sum = 0.0
            for step in self._epoch(epoch):
                loss_sum += step.loss * step.n_examples
                yield step
            info = self._validate(epoch, loss_sum / len(self._train.texts), start)
            if info.is_best:
                self.best, epochs_without_gain = info, 0
                self._best_state = [p.detach().clone() for p in trained_parameters(self.model)]
            else:
                epochs_without_gain += 1
            self.epochs_done = epoch
            yield info
            if epochs_without_gain >= self._settings.patience:
                return

    def restore_best(self) -> EpochInfo:
        """Put the best epoch's parameters back into the model, and say which it was."""
        if self.best is None:
            raise ValueError("No epoch has ended: there is no state to restore.")
        with torch.no_grad():
            for parameter, value in zip(trained_parameters(self.model), self._best_state, strict=True):
                parameter.copy_(value)
        return self.best

    def _epoch(self, epoch: int) -> Iterator[StepInfo]:
        settings, lengths = self._settings, self._train.texts.lengths
        steps = plan_steps(
            lengths, batch_size=settings.batch_size, token_budget=settings.token_budget, seed=(self._seed, epoch)
        )
        n_steps = settings.epochs * self.steps_per_epoch
        for passes in steps:
            start = time.perf_counter()
            self.model.train()
            n_examples = sum(len(rows) for rows in passes)
            loss = sum(self._backward(rows, n_examples) for rows in passes)
            if not np.isfinite(loss):
                raise RunFailedError(
                    f"The loss is {loss} at step {self.steps_done + 1} (epoch {epoch}) with a learning rate of "
                    f"{self._learning_rate:g}. Try a tenth of that rate (--set train.learning_rate=...), or "
                    "--set engine.dtype=fp32."
                )
            nn.utils.clip_grad_norm_(list(trained_parameters(self.model)), settings.max_grad_norm)
            rate = self._learning_rate * rate_factor(
                self.steps_done + 1, n_steps=n_steps, warmup_ratio=settings.warmup_ratio
            )
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
            n_tokens = int(sum(lengths[rows].sum() for rows in passes))
            self.steps_done += 1
            self.examples_seen += n_examples
            self.tokens_seen += n_tokens
            yield StepInfo(
                step=self.steps_done,
                epoch=epoch,
                loss=loss,
                learning_rate=rate,
                n_examples=n_examples,
                n_tokens=n_tokens,
                seconds=time.perf_counter() - start,
            )

    def _backward(self, rows: np.ndarray, n_examples: int) -> float:
        """Add one pass's share of the step's gradient; return its share of the step's loss."""
        batch = self._train.texts.collate(rows, self._runtime.device)
        labels = torch.from_numpy(self._train.labels[rows]).to(self._runtime.device)
        with self._runtime.autocast():
            logits = self.model(**batch).logits
        loss = nn.functional.cross_entropy(logits.float(), labels, reduction="sum") / n_examples
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _validate(self, epoch: int, train_loss: float, start: float) -> EpochInfo:
        logits = predict_logits(
            self.model, self._validation.texts, token_budget=self._settings.token_budget, runtime=self._runtime
        )
        probabilities = softmax(logits)
        metrics = score(self._validation.labels, probabilities)
        return EpochInfo(
            epoch=epoch,
            train_loss=train_loss,
            validation=metrics,
            validation_probabilities=probabilities,
            is_best=self.best is None or _better(metrics, self.best.validation),
            seconds=time.perf_counter() - start,
        )


def _better(new: Metrics, old: Metrics) -> bool:
    """More right answers; at a tie, the lower loss."""
    return (new.accuracy, -new.log_loss) > (old.accuracy, -old.log_loss)
