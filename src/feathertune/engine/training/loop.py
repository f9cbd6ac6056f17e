"""The training loop. It can stop after any step and resume elsewhere, bit for bit with the same number of threads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from feathertune.config import TrainConfig
from feathertune.data.tokens.batching import plan_steps
from feathertune.engine.predict import predict_logits
from feathertune.engine.training.distributed import ALONE, Group
from feathertune.engine.training.gradient import Labelled, add_gradient
from feathertune.engine.training.optim import (
    RateOf,
    clip_gradients,
    make_optimizer,
    rate_factor,
    set_rate,
)
from feathertune.engine.training.state import (
    BestEpoch,
    Position,
    State,
    StateValues,
    capture,
    restore,
    set_parameters,
    trained_by_name,
)
from feathertune.errors import RunFailedError
from feathertune.records import Scores
from feathertune.runtime import Runtime
from feathertune.tasks import Task, task_of
from feathertune.training_hook import TrainingHook


@dataclass(frozen=True)
class StepInfo:
    """One optimizer step; `loss` is the mean over its examples."""

    step: int
    epoch: int
    loss: float
    learning_rate: float
    n_examples: int
    seconds: float


@dataclass(frozen=True)
class EpochInfo:
    """Result of one epoch. Without validation rows it has no scores, and the latest epoch is the best."""

    epoch: int
    train_loss: float
    validation: Scores | None
    validation_probabilities: np.ndarray
    is_best: bool
    seconds: float


@dataclass(frozen=True)
class Recipe:
    """Settings of one training; `rate_of` maps a parameter name to a rate factor, `task` defaults by the labels."""

    settings: TrainConfig
    learning_rate: float
    seed: int
    task: Task | None = None
    rate_of: RateOf | None = None
    hook: TrainingHook | None = None


class Training:
    """One training of one model on the runtime's device; `validation` selects the best epoch and may be empty."""

    def __init__(
        self,
        model: nn.Module,
        train: Labelled,
        validation: Labelled,
        recipe: Recipe,
        *,
        runtime: Runtime,
        group: Group = ALONE,
    ) -> None:
        self.model = model.to(runtime.device)
        self.notes: list[str] = []
        self.best: EpochInfo | None = None
        self.position = Position()
        self._train, self._validation = train, validation
        self._recipe, self._settings, self._hook = recipe, recipe.settings, recipe.hook
        self._runtime, self._group = runtime, group
        self._task = recipe.task or task_of(train.labels)
        self._trained = list(trained_by_name(model).values())
        self._modules = list(model.modules())
        self._optimizer = make_optimizer(
            model,
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.settings.weight_decay,
            rate_of=recipe.rate_of,
        )
        self._best_parameters: dict[str, torch.Tensor] = {}

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch."""
        return self._settings.steps_per_epoch(len(self._train.texts))

    @property
    def n_epochs(self) -> int:
        """Maximum number of epochs."""
        return self._settings.epochs_on(len(self._train.texts))

    def events(self) -> Iterator[StepInfo | EpochInfo]:
        """Train from the current position, and yield each step and epoch.

        Raises:
            RunFailedError: If a loss or a gradient is not finite; the parameters are unchanged since the last step.
        """
        settings = self._settings
        while self.position.epochs_done < self.n_epochs and self.position.epochs_without_gain < settings.patience:
            steps = plan_steps(
                self._train.texts.lengths,
                batch_size=settings.batch_size,
                token_budget=settings.token_budget,
                seed=(self._recipe.seed, self.position.epochs_done + 1),
            )
            for passes in steps[self.position.steps_of_epoch :]:
                yield self._step(passes)
            yield self._end_epoch()

    def restore_best(self) -> EpochInfo:
        """Restore the best epoch's parameters in the model, and return that epoch."""
        if self.best is None:
            raise ValueError("Cannot restore the best epoch: no epoch has ended.")
        if self._validates:
            set_parameters(self.model, self._best_parameters)
        return self.best

    def state(self) -> State:
        """Return everything needed to continue this training bit for bit; the tensors are not copies."""
        tensors, generators = capture(self.model, self._optimizer, self._runtime.device)
        tensors |= {"best": self._best_parameters, "validation": {}, "hook": {}}
        if self._hook is not None:
            tensors["hook"] = self._hook.state()
        values = StateValues(position=self.position.model_copy(), generators=generators)
        if (best := self.best) is not None:
            tensors["validation"] = {"probabilities": torch.from_numpy(best.validation_probabilities)}
            values.best = BestEpoch(**{name: getattr(best, name) for name in BestEpoch.model_fields})
        return State(tensors, values)

    def load_state(self, state: State) -> None:
        """Continue from a state of the same training; raise CheckpointError, changing nothing, if parameters differ."""
        restore(state, self.model, self._optimizer, self._runtime.device)
        if self._hook is not None:
            self._hook.load_state(state.tensors["hook"])
        self.position = state.values.position.model_copy()
        device = self._runtime.device
        self._best_parameters = {name: value.to(device, copy=True) for name, value in state.tensors["best"].items()}
        self.best = None
        if (best := state.values.best) is not None:
            probabilities = state.tensors["validation"]["probabilities"].numpy().copy()
            self.best = EpochInfo(**dict(best), validation_probabilities=probabilities, is_best=True)

    def _step(self, passes: list[np.ndarray]) -> StepInfo:
        start = time.perf_counter()
        settings, at = self._settings, self.position
        # Reading all flags is faster than setting them; the flag of PEFT's wrapper alone is unreliable.
        if not all(module.training for module in self._modules):
            self.model.train()
        self._group.seed_torch(self._recipe.seed, at.steps_done)
        n_examples = sum(len(rows) for rows in passes)
        loss, halvings = add_gradient(
            self.model,
            self._trained,
            self._train,
            passes,
            halvings=at.halvings,
            runtime=self._runtime,
            group=self._group,
            penalty=None if self._hook is None else self._hook.penalty,
        )
        if halvings > at.halvings:
            self.notes.append(
                f"Step {at.steps_done + 1} ran out of memory; from there on, each pass is split into {2**halvings}."
            )
            at.halvings = halvings
        self._require_finite("loss", loss)
        norm = clip_gradients(self._trained, settings.max_grad_norm)
        self._require_finite("gradient norm", norm)
        rate = self._recipe.learning_rate * rate_factor(
            at.steps_done + 1, n_steps=settings.steps_on(len(self._train.texts)), warmup_ratio=settings.warmup_ratio
        )
        set_rate(self._optimizer, rate)
        self._optimizer.step()
        if self._hook is not None:
            self._hook.after_step(at.steps_done + 1)
        self._optimizer.zero_grad(set_to_none=True)
        at.steps_done += 1
        at.steps_of_epoch += 1
        at.examples_seen += n_examples
        at.tokens_seen += int(sum(self._train.texts.lengths[rows].sum() for rows in passes))
        at.loss_sum += loss * n_examples
        info = StepInfo(
            step=at.steps_done,
            epoch=at.epochs_done + 1,
            loss=loss,
            learning_rate=rate,
            n_examples=n_examples,
            seconds=time.perf_counter() - start,
        )
        at.epoch_seconds += info.seconds
        return info

    def _require_finite(self, what: str, value: float) -> None:
        if not np.isfinite(value):
            raise RunFailedError(
                f"The {what} is {value} at step {self.position.steps_done + 1} "
                f"(epoch {self.position.epochs_done + 1}) with learning rate {self._recipe.learning_rate:g}. "
                "Try a tenth of that rate (--set train.learning_rate=...), or pass --set engine.dtype=fp32."
            )

    @property
    def _validates(self) -> bool:
        return len(self._validation.labels) > 0

    def validate(self) -> tuple[Scores, np.ndarray]:
        """Return validation scores, and probabilities ``(N, C)``, or ``(N, 1)`` numbers in the labels' unit."""
        logits = predict_logits(
            self.model,
            self._validation.texts,
            token_budget=self._settings.token_budget,
            runtime=self._runtime,
            group=self._group,
        )
        probabilities = self._task.probabilities(self._train.objective.in_unit(logits))
        return self._task.evaluate_fitted(self._validation.labels, probabilities), probabilities

    def _end_epoch(self) -> EpochInfo:
        """Score the validation set, and keep the parameters if the score is the best so far."""
        start = time.perf_counter()
        at = self.position
        metrics, probabilities = None, np.zeros((0, 0))
        if self._validates:
            metrics, probabilities = self.validate()
        before = None if self.best is None else self.best.validation
        is_best = metrics is None or before is None or self._task.order(metrics) > self._task.order(before)
        seconds = at.epoch_seconds + time.perf_counter() - start
        info = EpochInfo(
            epoch=at.epochs_done + 1,
            train_loss=at.loss_sum / len(self._train.texts),
            validation=metrics,
            validation_probabilities=probabilities,
            is_best=is_best,
            seconds=seconds,
        )
        if is_best:
            self.best = info
            if self._validates:
                self._best_parameters = {n: p.detach().clone() for n, p in trained_by_name(self.model).items()}
        at.epochs_without_gain = 0 if is_best else at.epochs_without_gain + 1
        at.epochs_done += 1
        at.steps_of_epoch, at.loss_sum, at.epoch_seconds = 0, 0.0, 0.0
        at.seconds += seconds
        return info
