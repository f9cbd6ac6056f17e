"""Pieces of a block with hand-written gradients, and the autograd node that runs one and frees tensors as it goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Gradients = list[Tensor | None]


class Layer(Protocol):
    """A function from one tensor to another, with a hand-written gradient."""

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """Trainable parameters; `backward` returns a gradient or ``None`` for each."""

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        """Return the output and what `backward` needs."""

    def backward(self, gradient: Tensor, saved: Any, *, wants_x: bool) -> tuple[Tensor | None, Gradients]:  # noqa: ANN401
        """Return the gradients of the input (if `wants_x`) and the parameters."""


def run(layer: Layer, x: Tensor) -> Tensor:
    """Run a layer as one autograd node, whose gradient can be computed once."""
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
            raise RuntimeError("A block's gradient can be computed only once: its saved tensors were freed.")
        saved, ctx.saved = ctx.saved, None  # lets the layer free them as it goes
        grad_x, grads = ctx.layer.backward(gradient, saved, wants_x=ctx.needs_input_grad[0])
        return grad_x, None, *grads


class Recomputed:
    """A layer that saves only its input and reruns with the same random state. Source: Chen 2016, arXiv:1604.06174."""

    def __init__(self, layer: Layer) -> None:
        self._layer, self.parameters = layer, layer.parameters

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the output, and the input with the random generator's state."""
        state = torch.get_rng_state()
        return self._layer.forward(x)[0], (x, state)

    def backward(
        self, gradient: Tensor, saved: tuple[Tensor, Tensor], *, wants_x: bool
    ) -> tuple[Tensor | None, Gradients]:
        """Run the layer again, then its backward pass."""
        x, state = saved
        now = torch.get_rng_state()
        torch.set_rng_state(state)
        _, of_layer = self._layer.forward(x)
        torch.set_rng_state(now)
        return self._layer.backward(gradient, of_layer, wants_x=wants_x)


class Called:
    """Modules that share an input, run by their own forward and autograd; outputs are concatenated in `dtype`."""

    def __init__(self, modules: Sequence[nn.Module], dtype: torch.dtype) -> None:
        self._modules, self._dtype = tuple(modules), dtype
        # Count a parameter once even if modules share it (VB-LoRA's bank): autograd returns its whole gradient.
        trained = {id(p): p for module in modules for p in module.parameters() if p.requires_grad}
        self.parameters = tuple(trained.values())

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Map ``(N, I)`` to ``(N, O)``."""
        if torch.is_inference_mode_enabled():  # inference tensors cannot have a gradient
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
        """Return autograd's gradients."""
        x, output = saved
        grad_x, *grads = torch.autograd.grad(output, (x, *self.parameters), gradient, allow_unused=True)
        return grad_x, list(grads)
