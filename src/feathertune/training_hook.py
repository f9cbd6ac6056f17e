"""`TrainingHook`: a method's interface to the training loop. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class TrainingHook(Protocol):
    """A method's additional work in each training step."""

    def penalty(self) -> Tensor:
        """Return a scalar to add to each step's loss."""

    def after_step(self, step: int) -> None:
        """Run after each optimizer step, counted from 1, before the gradients are cleared."""

    def state(self) -> Mapping[str, Tensor]:
        """Return the state for a checkpoint."""

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""
