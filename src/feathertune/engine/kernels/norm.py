"""Norms and residual additions with hand-written gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from feathertune.engine.kernels.attention import as_bits, drop, keep_mask
from feathertune.engine.kernels.layer import Called, Gradients, Layer

Rate = Callable[[], float]


def norm_layer(module: nn.Module, dtype: torch.dtype) -> Norm:
    """Return a norm of rows ``(N, D)`` with output in `dtype`; unknown norms run their own forward."""
    # On a GPU, torch's kernel requires weights in the input's dtype.
    if type(module) is nn.LayerNorm and module.weight is not None and module.weight.device.type == "cpu":
        return Norm(module, _LayerNorm(module, dtype))
    if (offset := _rms_offset(module)) is not None:
        return Norm(module, _RmsNorm(module, offset, dtype))
    return Norm(module, Called([module], dtype))


class Norm:
    """A norm as a layer, with its module."""

    def __init__(self, module: nn.Module, layer: Layer) -> None:
        self.module, self._layer, self.parameters = module, layer, layer.parameters
        self.forward, self.backward = layer.forward, layer.backward

    def is_the_same_as(self, other: Norm) -> bool:
        """Return True if both are plain norms that share the same parameter objects."""
        if isinstance(self._layer, Called) or type(self._layer) is not type(other._layer):
            return self is other
        return all(a is b for a, b in zip(self.module.parameters(), other.module.parameters(), strict=True))


class _LayerNorm:
    def __init__(self, module: nn.LayerNorm, dtype: torch.dtype) -> None:
        self._module, self._dtype = module, dtype
        self.parameters = tuple(p for p in module.parameters() if p.requires_grad)

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        norm = self._module
        output, mean, rstd = torch.native_layer_norm(x, list(norm.normalized_shape), norm.weight, norm.bias, norm.eps)
        return output.to(self._dtype), (x, mean, rstd)

    def backward(self, gradient: Tensor, saved: Any, *, wants_x: bool) -> tuple[Tensor | None, Gradients]:  # noqa: ANN401
        x, mean, rstd = saved
        weight, bias = self._module.weight, self._module.bias
        wants = [wants_x, weight.requires_grad, bias is not None and bias.requires_grad]
        grad, *found = torch.ops.aten.native_layer_norm_backward(
            gradient.to(x.dtype).contiguous(), x, list(self._module.normalized_shape), mean, rstd, weight, bias, wants
        )
        return grad if wants_x else None, [g for g, wanted in zip(found, wants[1:], strict=True) if wanted]


class _RmsNorm:
    """``x / rms(x) * (offset + weight)``. Source: Zhang and Sennrich 2019, arXiv:1910.07467; Gemma's offset is 1."""

    def __init__(self, module: nn.Module, offset: float, dtype: torch.dtype) -> None:
        self._weight, self._offset, self._dtype = _only_weight(module), offset, dtype
        self._eps = _epsilon(module)
        self.parameters = (self._weight,) if self._weight.requires_grad else ()
        self._frozen = None if self.parameters else self._scale()

    def _scale(self) -> Tensor:
        return (self._weight.detach() + self._offset).to(self._dtype)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        wide = torch.promote_types(x.dtype, torch.float32)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
        inverse = torch.rsqrt(length.square_().div_(x.shape[-1]).add_(self._eps))
        normed = (x * inverse).to(self._dtype)
        scale = self._scale() if self._frozen is None else self._frozen
        return normed * scale, (normed, inverse, scale)

    def backward(
        self, gradient: Tensor, saved: tuple[Tensor, ...], *, wants_x: bool
    ) -> tuple[Tensor | None, Gradients]:
        normed, inverse, scale = saved
        grads: Gradients = [(gradient * normed).sum(0).to(p.dtype) for p in self.parameters]
        if not wants_x:
            return None, grads
        scaled = gradient * scale
        share = (scaled * normed).sum(-1, keepdim=True, dtype=inverse.dtype).div_(-normed.shape[-1])
        return torch.addcmul(scaled, normed, share.to(normed.dtype)).mul_(inverse), grads


def _rms_offset(module: nn.Module) -> float | None:
    """Return the offset that an RMS norm adds to its weight, found by a trial; None for other norms."""
    names = [name for name, _ in module.named_parameters()]
    if names != ["weight"] or not hasattr(module, "eps") | hasattr(module, "variance_epsilon"):
        return None
    weight = _only_weight(module)
    x = torch.linspace(-1, 2, weight.shape[-1], dtype=weight.dtype, device=weight.device).add_(0.1).unsqueeze(0)
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        given = module(x).float()
        normed = x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + _epsilon(module))
        close = {torch.bfloat16: 1e-2}.get(weight.dtype, 1e-5)
        for offset in (0.0, 1.0):
            if torch.allclose(given, normed * (weight.float() + offset), rtol=close, atol=close):
                return offset
    return None


def _only_weight(module: nn.Module) -> nn.Parameter:
    return next(module.parameters())


def _epsilon(module: Any) -> float:  # noqa: ANN401 - any norm
    found = getattr(module, "variance_epsilon", None) or getattr(module, "eps", None)
    return torch.finfo(module.weight.dtype).eps if found is None else float(found)


class Residual:
    """``of_sum(residual + dropout(x))`` or ``residual + after(x)``; each norm is optional."""

    def __init__(self, rate: Rate, *, after: Norm | None = None, of_sum: Norm | None = None) -> None:
        self._rate, self._after, self._of_sum = rate, after, of_sum
        self.parameters = tuple(p for norm in (after, of_sum) if norm is not None for p in norm.parameters)

    def is_the_same_as(self, other: Residual) -> bool:
        """Return True if both have the same norms with the same parameter objects."""
        pairs = ((self._after, other._after), (self._of_sum, other._of_sum))
        return all(a is b if a is None or b is None else a.is_the_same_as(b) for a, b in pairs)

    def forward(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Any]:
        """Return the sum or its norm, and what `backward` needs; both inputs are ``(N, D)``."""
        dtype, of_norm = x.dtype, None
        if self._after is not None:
            x, of_norm = self._after.forward(x)
            return x + residual, (of_norm, None, 0.0, dtype)
        p = self._rate()
        keep = as_bits(keep_mask(tuple(x.shape), p, x.device), dtype) if p > 0 else None
        total = x + residual if keep is None else torch.add(residual, drop(x, keep), alpha=1 / (1 - p))
        if self._of_sum is not None:
            total, of_norm = self._of_sum.forward(total)
        return total, (of_norm, keep, p, dtype)

    def backward(self, gradient: Tensor, saved: Any) -> tuple[Tensor, Tensor, Gradients]:  # noqa: ANN401
        """Return the gradients of ``x``, ``residual`` (possibly the same tensor) and the parameters."""
        of_norm, keep, p, dtype = saved
        if self._after is not None:
            grad, grads = self._after.backward(gradient.to(dtype), of_norm, wants_x=True)
            assert grad is not None, "wants_x is True"
            return grad.to(dtype), gradient, grads
        total, grads = gradient, Gradients()
        if self._of_sum is not None:
            found, grads = self._of_sum.backward(gradient, of_norm, wants_x=True)
            assert found is not None, "wants_x is True"
            total = found
        grad = total.to(dtype)
        return (grad if keep is None else drop(grad, keep).mul_(1 / (1 - p))), total, grads
