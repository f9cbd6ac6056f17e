"""What a method and the training loop agree on, beside the model: `TrainingHook`. No torch.

It stands below both, since the loop knows no methods. Not for what an optimizer does: most methods need none of this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class TrainingHook(Protocol):
    """What a method does beside the optimizer while its model is trained."""

    def penalty(self) -> Tensor:
        """A scalar that is added to each step's loss."""

    def after_step(self, step: int) -> None:
        """Called after each optimizer step, from 1, while the gradients are still there."""

    def state(self) -> Mapping[str, Tensor]:
        """What it remembers, for a checkpoint."""

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave."""
