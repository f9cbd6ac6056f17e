"""`TrainingHook`: a method's part in the training loop, which knows no methods. It loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class TrainingHook(Protocol):
    """A method's work in each step, besides the optimizer's."""

    def penalty(self) -> Tensor:
        """Return a scalar that is added to each step's loss."""

    def after_step(self, step: int) -> None:
        """Run after each optimizer step, from 1, before the gradients are cleared."""

    def state(self) -> Mapping[str, Tensor]:
        """Return the state for a checkpoint."""

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""
