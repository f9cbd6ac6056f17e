"""Pieces of a block with their gradients by hand, and the one node that puts such a piece into autograd's graph.

A block of BERT is some thirty operations on each of two ways. Here it is one node, made of pieces, each of which knows
what it must keep and how its gradient goes: nothing is kept that no gradient asks for, what was kept is freed as soon
as it is used, and a block can run again instead of keeping anything (`Recomputed`). Not for pieces with several inputs
that need a gradient of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Gradients = list[Tensor | None]


class Layer(Protocol):
    """From one tensor to one, with a gradient by hand."""

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """What may be trained in it; `backward` returns a gradient or ``None`` for each."""

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        """The output, and what `backward` needs."""

    def backward(self, gradient: Tensor, saved: Any, *, wants_x: bool) -> tuple[Tensor | None, Gradients]:  # noqa: ANN401
        """Gradients of the input (where it is wanted) and of the parameters."""


def run(layer: Layer, x: Tensor) -> Tensor:
    """Put a layer into autograd's graph as one node.

    Only first gradients: the node cannot be differentiated twice.
    """
    output: Tensor = _Node.apply(x, layer, *layer.parameters)  # type: ignore[no-untyped-call]
    return output


class _Node(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Layer, *parameters: Tensor) -> Tensor:  # noqa: ANN401
        output, saved = layer.forward(x)
        if any(ctx.needs_input_grad):
            ctx.layer, ctx.saved = layer, saved
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        if ctx.saved is None:
            raise RuntimeError("A block's gradient can be asked for once: what it had kept is freed piece by piece.")
        saved, ctx.saved = ctx.saved, None  # so that the peak is not the sum of both ways
        grad_x, grads = ctx.layer.backward(gradient, saved, wants_x=ctx.needs_input_grad[0])
        return grad_x, None, *grads


class Recomputed:
    """A layer that keeps its input alone and runs again on the way back, with the same random draws.

    A third more time, and of all blocks' activations only one block's at once. Source: Chen et al. 2016,
    arXiv:1604.06174.
    """

    def __init__(self, layer: Layer) -> None:
        self._layer, self.parameters = layer, layer.parameters

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As the layer."""
        state = torch.get_rng_state()
        return self._layer.forward(x)[0], (x, state)

    def backward(
        self, gradient: Tensor, saved: tuple[Tensor, Tensor], *, wants_x: bool
    ) -> tuple[Tensor | None, Gradients]:
        """As the layer, which runs again first."""
        x, state = saved
        now = torch.get_rng_state()
        torch.set_rng_state(state)
        _, of_layer = self._layer.forward(x)
        torch.set_rng_state(now)
        return self._layer.backward(gradient, of_layer, wants_x=wants_x)


class Called:
    """Modules that do more than is known here: their own forward, and autograd's gradient.

    Args:
        modules: They read the same input; the outputs stand side by side.
        dtype: Of inputs and outputs, whatever the modules compute in.
    """

    def __init__(self, modules: Sequence[nn.Module], dtype: torch.dtype) -> None:
        self._modules, self._dtype = tuple(modules), dtype
        # Each once, also where modules share one (VB-LoRA's bank): autograd's answer for it is the whole sum.
        trained = {id(p): p for module in modules for p in module.parameters() if p.requires_grad}
        self.parameters = tuple(trained.values())

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """``(N, I)`` to ``(N, O)``."""
        if torch.is_inference_mode_enabled():  # what is made there can have no gradient, whoever asks for one
            return self._outputs(x), (x, x)
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            output = self._outputs(x)
        return output.detach(), (x, output)

    def _outputs(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, self._dtype, enabled=self._dtype == torch.bfloat16):
            outputs = [module(x).to(self._dtype) for module in self._modules]
            return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)

    def backward(
        self, gradient: Tensor, saved: tuple[Tensor, Tensor], *, wants_x: bool
    ) -> tuple[Tensor | None, Gradients]:
        """By autograd."""
        x, output = saved
        grad_x, *grads = torch.autograd.grad(output, (x, *self.parameters), gradient, allow_unused=True)
        return grad_x, list(grads)
