"""Layer norm of a sum, with dropout before the sum: one step in each direction; other norms run their own forward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from feathertune.engine.kernels.attention import as_bits, drop, keep_mask
from feathertune.engine.kernels.layer import Called, Gradients


class AddNorm:
    """``norm(dropout(x) + residual)``; `dropout` is ``None`` for families without one."""

    def __init__(self, norm: Any, dropout: nn.Dropout | None) -> None:  # noqa: ANN401 - any module
        self._norm, self._dropout = norm, dropout
        # On a GPU torch's kernel wants weights in the dtype of the input.
        self._plain = type(norm) is nn.LayerNorm and norm.bias is not None and norm.weight.device.type == "cpu"
        self.parameters = tuple(p for p in norm.parameters() if p.requires_grad)

    def is_the_norm_of(self, other: AddNorm) -> bool:
        """Return whether both are a plain norm with the very same parameters."""
        if not self._plain or not other._plain:
            return self is other
        return self._norm.weight is other._norm.weight and self._norm.bias is other._norm.bias

    def forward(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Any]:
        """Return the norm of the sum and what `backward` needs; each input is ``(N, D)``."""
        p = dropout_share(self._dropout)
        keep = as_bits(keep_mask(tuple(x.shape), p, x.device), x.dtype) if p > 0 else None
        total = x + residual if keep is None else torch.add(residual, drop(x, keep), alpha=1 / (1 - p))
        norm = self._norm
        if not self._plain:
            output, saved = Called([norm], x.dtype).forward(total)
            return output, (saved, keep, p)
        output, mean, rstd = torch.native_layer_norm(
            total, list(norm.normalized_shape), norm.weight, norm.bias, norm.eps
        )
        return output, ((total, mean, rstd), keep, p)

    def backward(self, gradient: Tensor, saved: Any) -> tuple[Tensor, Tensor, Gradients]:  # noqa: ANN401
        """Return gradients of ``x``, of ``residual`` and of the parameters."""
        of_norm, keep, p = saved
        norm = self._norm
        grad: Any
        grads: Gradients
        if not self._plain:
            grad, grads = Called([norm], gradient.dtype).backward(gradient, of_norm, wants_x=True)
        else:
            total, mean, rstd = of_norm
            wants = [True, norm.weight.requires_grad, norm.bias.requires_grad]
            grad, *found = torch.ops.aten.native_layer_norm_backward(
                gradient.contiguous(), total, list(norm.normalized_shape), mean, rstd, norm.weight, norm.bias, wants
            )
            grads = [g for g, wanted in zip(found, wants[1:], strict=True) if wanted]
        return (grad if keep is None else drop(grad, keep).mul_(1 / (1 - p))), grad, grads


def dropout_share(dropout: nn.Dropout | None) -> float:
    """Return the share that a dropout drops now: 0 outside of training."""
    return dropout.p if dropout is not None and dropout.training else 0.0
