"""MLP activation functions with hand-written gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from feathertune.engine.kernels.layer import Called, Gradients, Layer

_gelu_backward = torch.ops.aten.gelu_backward


class Elementwise:
    """An elementwise function, which saves its input for the gradient."""

    parameters: tuple[Tensor, ...] = ()

    def __init__(self, function: Callable[[Tensor], Tensor], gradient: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Take a function and its gradient, which maps the output's gradient and the input to the input's gradient."""
        self._function, self._gradient = function, gradient

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output and the input."""
        return self._function(x), x

    def backward(self, gradient: Tensor, saved: Tensor, *, wants_x: bool) -> tuple[Tensor | None, Gradients]:
        """Return the input's gradient."""
        return self._gradient(gradient, saved), []


class Gated:
    """``f(a) * b``, where ``a`` and ``b`` are the halves of ``(N, 2 F)``; ``f(a)`` is recomputed for the gradient.

    Source: Shazeer 2020, arXiv:2002.05202.
    """

    def __init__(self, function: Layer) -> None:
        self._function, self.parameters = function, function.parameters

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(N, F)`` and the input."""
        a, b = x.chunk(2, dim=-1)
        return self._function.forward(a)[0] * b, x

    def backward(self, gradient: Tensor, saved: Tensor, *, wants_x: bool) -> tuple[Tensor | None, Gradients]:
        """Return the input's gradient."""
        a, b = saved.chunk(2, dim=-1)
        active, of_function = self._function.forward(a)
        grad = torch.empty_like(saved)
        grad_a, grad_b = grad.chunk(2, dim=-1)
        torch.mul(gradient, active, out=grad_b)
        found, grads = self._function.backward(gradient * b, of_function, wants_x=True)
        assert found is not None, "wants_x is True"
        grad_a.copy_(found)
        return grad, grads


def activation(module: nn.Module, dtype: torch.dtype) -> Layer:
    """Return a module's function with a hand-written gradient, or a layer that calls the module."""
    function = _known(module)
    return Called([module], dtype) if function is None else Elementwise(*function)


def _known(module: Any) -> tuple[Callable[..., Tensor], Callable[..., Tensor]] | None:  # noqa: ANN401 - any module
    from transformers.activations import GELUActivation, GELUTanh, SiLUActivation

    kind = type(module)
    if kind in (nn.SiLU, SiLUActivation):
        return nn.functional.silu, torch.ops.aten.silu_backward
    if kind is nn.ReLU:
        return nn.functional.relu, lambda gradient, x: gradient * (x > 0)
    if kind is nn.GELU:
        kind_of = {"approximate": module.approximate}
        return partial(nn.functional.gelu, **kind_of), partial(_gelu_backward, **kind_of)
    if kind is GELUActivation and module.act is nn.functional.gelu:
        return nn.functional.gelu, _gelu_backward
    if kind is GELUTanh and isinstance(module.act, partial):
        return module.act, partial(_gelu_backward, approximate="tanh")
    return None
