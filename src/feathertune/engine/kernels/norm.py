"""Layer norm of a sum, with dropout before the sum: one step in each direction.

The sum's two gradients are one tensor, and the norm's weights may be fp32 with bf16 inputs. A norm that PEFT has
wrapped, or that is no layer norm, runs its own forward.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from feathertune.engine.kernels.attention import as_bits, drop, keep_mask
from feathertune.engine.kernels.layer import Called, Gradients


class SumNorm(Protocol):
    """The norm of a sum, with a gradient by hand."""

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """Parameters that may be trained."""

    def forward(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Any]:
        """Return the norm of the sum and what `backward` needs; each input is ``(N, D)``."""

    def backward(self, gradient: Tensor, saved: Any) -> tuple[Tensor, Tensor, Gradients]:  # noqa: ANN401
        """Return gradients of ``x``, of ``residual`` and of the parameters."""


class AddNorm:
    """``norm(dropout(x) + residual)``; `dropout` is ``None`` for families without one."""

    def __init__(self, norm: nn.Module, dropout: nn.Dropout | None) -> None:
        self._dropout = dropout
        # On a GPU torch's kernel wants weights in the dtype of the input.
        plain = type(norm) is nn.LayerNorm and norm.bias is not None and norm.weight.device.type == "cpu"
        self._norm = norm if isinstance(norm, nn.LayerNorm) and plain else None
        self._called = None if self._norm is not None else norm
        self.parameters = tuple(p for p in norm.parameters() if p.requires_grad)

    def is_the_norm_of(self, other: AddNorm) -> bool:
        """Return whether both are a plain norm with the very same parameters."""
        mine, theirs = self._norm, other._norm
        if mine is None or theirs is None:
            return self is other
        return mine.weight is theirs.weight and mine.bias is theirs.bias

    def forward(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Any]:
        """Return the norm of the sum and what `backward` needs; each input is ``(N, D)``."""
        p = self._dropout.p if self._dropout is not None and self._dropout.training else 0.0
        keep = as_bits(keep_mask(tuple(x.shape), p, x.device), x.dtype) if p > 0 else None
        total = x + residual if keep is None else torch.add(residual, drop(x, keep), alpha=1 / (1 - p))
        if self._norm is None:
            assert self._called is not None, "one of the two is there"
            output, saved = Called([self._called], x.dtype).forward(total)
            return output, (saved, keep, p)
        norm = self._norm
        output, mean, rstd = torch.native_layer_norm(
            total, list(norm.normalized_shape), norm.weight, norm.bias, norm.eps
        )
        return output, ((total, mean, rstd), keep, p)

    def backward(self, gradient: Tensor, saved: Any) -> tuple[Tensor, Tensor, Gradients]:  # noqa: ANN401
        """Return gradients of ``x``, of ``residual`` and of the parameters."""
        of_norm, keep, p = saved
        grads: Gradients
        if self._norm is None:
            assert self._called is not None, "one of the two is there"
            grad, grads = Called([self._called], gradient.dtype).backward(gradient, of_norm, wants_x=True)
            assert grad is not None, "it was wanted"
        else:
            norm, (total, mean, rstd) = self._norm, of_norm
            wants = [True, norm.weight.requires_grad, norm.bias.requires_grad]
            grad, *found = torch.ops.aten.native_layer_norm_backward(
                gradient.contiguous(), total, list(norm.normalized_shape), mean, rstd, norm.weight, norm.bias, wants
            )
            grads = [g for g, wanted in zip(found, wants[1:], strict=True) if wanted]
        return (grad if keep is None else drop(grad, keep).mul_(1 / (1 - p))), grad, grads
