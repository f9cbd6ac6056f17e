"""The progress of a training: lines of ``metrics.jsonl``, checkpoints, losses of each epoch."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from feathertune.engine.training.checkpoint import Checkpoints
from feathertune.engine.training.loop import EpochInfo, StepInfo, Training
from feathertune.study.observe import Observer
from feathertune.tasks import Score
from feathertune.tasks.losses import Objective

# A training step costs about three forward passes: forward, gradients of inputs, gradients of weights.
TRAINING_COST = 3.0


def epoch_work(n_train: int, n_validation: int) -> float:
    """Return the work of an epoch, in texts that pass the encoder once."""
    return TRAINING_COST * n_train + n_validation


@dataclass
class TrainingLog:
    """Follows one training to its end; writes ``metrics.jsonl`` and collects the losses of each epoch."""

    path: Path
    observer: Observer
    checkpoints: Checkpoints | None
    score: Score
    objective: Objective
    train_losses: list[float] = field(default_factory=list)
    validation_losses: list[float] = field(default_factory=list)
    _said: str = ""

    def follow(self, training: Training) -> None:
        """Train to the end; write each line as it happens, keep checkpoints, and tell the observer."""
        with self.path.open("w", encoding="utf-8") as file:
            for event in training.events():
                line = self._step(event) if isinstance(event, StepInfo) else self._epoch(event)
                file.write(json.dumps(line) + "\n")
                file.flush()
                self.observer.measured(line)
                if self.checkpoints is not None:
                    self.checkpoints.offer(training.state, epoch_end=isinstance(event, EpochInfo))

    def _step(self, event: StepInfo) -> dict[str, Any]:
        said = f"epoch {event.epoch}, loss {event.loss:.3f}{self._said}"
        self.observer.advanced(TRAINING_COST * event.n_examples, said)
        return {
            "event": "step",
            "step": event.step,
            "epoch": event.epoch,
            "loss": event.loss,
            "learning_rate": event.learning_rate,
            "seconds": event.seconds,
        }

    def _epoch(self, event: EpochInfo) -> dict[str, Any]:
        scores = event.validation
        validation_loss = None if scores is None else self.objective.comparable(scores.loss)
        score = None if scores is None else self.score.of(scores)
        line = {
            "event": "epoch",
            "epoch": event.epoch,
            "train_loss": event.train_loss,
            "validation_loss": validation_loss,
            "validation_score": score,
            "seconds": event.seconds,
        }
        self.train_losses.append(event.train_loss)
        if validation_loss is not None:
            self.validation_losses.append(validation_loss)
            self._said = f", validation {self.score.format.score(score)}"
        self.observer.advanced(0 if scores is None else scores.n, f"epoch {event.epoch}{self._said}")
        return line
