"""Comparing gradients as whole tensors, and checking those that are written by hand against differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def grads(output: Tensor, tensors: Sequence[Tensor], gradient: Tensor) -> list[Tensor]:
    """Gradients of tensors, zeros where the output does not depend on one."""
    found = torch.autograd.grad(output, tensors, gradient.to(output.dtype), allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for g, t in zip(found, tensors, strict=True)]


def assert_same(
    found: Tensor,
    expected: Tensor,
    tensors: Sequence[Tensor],
    gradient: Tensor,
    **tolerance: float,
) -> None:
    """Two outputs of the same tensors are equal, and so is what they say of each tensor for one gradient."""
    torch.testing.assert_close(found, expected, **tolerance)
    ours, theirs = grads(found, tensors, gradient), grads(expected, tensors, gradient)
    for number, pair in enumerate(zip(ours, theirs, strict=True)):
        torch.testing.assert_close(*pair, msg=lambda text, number=number: f"gradient {number}: {text}", **tolerance)


def check_gradients(function: Callable[..., Tensor], tensors: Sequence[Tensor], *, fast_mode: bool = False) -> None:
    """`torch.autograd.gradcheck` for nodes that free what they saved: the graph is made anew for each backward."""
    assert all(t.dtype == torch.float64 for t in tensors)
    assert torch.autograd.gradcheck(lambda *inputs: _Anew.apply(function, *inputs), tuple(tensors), fast_mode=fast_mode)


class _Anew(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        ctx.function, ctx.tensors = function, tensors
        return function(*tensors)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with torch.enable_grad():
            output = ctx.function(*ctx.tensors)
        return None, *torch.autograd.grad(output, ctx.tensors, gradient)
