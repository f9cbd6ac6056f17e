"""The engine's linear layers: layers with the same input (query, key, value) become one product.

Source: Hu et al. 2021, arXiv:2106.09685, section 4.1; order of the products as in RunLoRA, arXiv:2312.03415.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from feathertune.engine.kernels.layer import Called, Gradients, Layer
from feathertune.engine.kernels.matrix import Matrices


@dataclass(frozen=True)
class LoraUpdate:
    """A weight's LoRA update, ``scaling * B A``: A is ``(R, I)``, B is ``(O, R)``."""

    a: Tensor
    b: Tensor
    scaling: float


@dataclass(frozen=True)
class Parts:
    """Parts of a linear layer: weight ``(O, I)``, bias ``(O,)``."""

    weight: Tensor
    bias: Tensor | None
    update: LoraUpdate | None


def read_parts(module: nn.Module) -> Parts | None:
    """Return a layer's parts, or ``None`` unless it is a product with at most one plain LoRA update."""
    if type(module) is nn.Linear:
        return Parts(module.weight, module.bias, None)
    from peft.tuners.lora.layer import Linear as LoraLinear

    if type(module) is not LoraLinear or type(module.base_layer) is not nn.Linear:
        return None
    layer: Any = module  # torch types every attribute of a module as a tensor or a module
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    if len(active) != 1 or len(layer.lora_A) != 1 or layer.merged or layer.disable_adapters or layer.fan_in_fan_out:
        return None
    (name,) = active
    dropout = layer.lora_dropout[name]
    a, b = layer.lora_A[name], layer.lora_B[name]
    plain = type(dropout) is nn.Identity or (isinstance(dropout, nn.Dropout) and dropout.p == 0)
    if name in layer.lora_variant or not plain or type(a) is not nn.Linear or b.bias is not None:
        return None
    base = layer.base_layer
    return Parts(base.weight, base.bias, LoraUpdate(a.weight, b.weight, float(layer.scaling[name])))


@dataclass(frozen=True)
class Arithmetic:
    """Settings for products; without `fused` each layer runs its own forward, the reference.

    `packed` is passed to `FrozenMatrix`. `matrices` are shared with other models that have parameters in common.
    """

    dtype: torch.dtype
    fused: bool = True
    packed: bool = True
    recompute: bool = False
    matrices: Matrices = field(default_factory=Matrices)

    def product(self, module: nn.Module, *paths: str) -> Layer:
        """Return one product for a block's linear layers that read the same input."""
        return self.join([module.get_submodule(path) for path in paths])

    def join(self, modules: Sequence[nn.Module]) -> Layer:
        """Return one product for layers that read the same input; PEFT may have wrapped them."""
        parts = [found for module in modules if (found := read_parts(module)) is not None]
        if not self.fused or len(parts) < len(modules):
            return Called(modules, self.dtype)
        trained = {part.weight.requires_grad for part in parts}
        if trained == {False}:
            return LoraProduct(parts, self.dtype, packed=self.packed, matrices=self.matrices)
        if trained == {True} and all(part.update is None for part in parts):
            return TrainedProduct(parts, self.dtype)
        return Called(modules, self.dtype)


class LoraProduct:
    """Frozen layers as one product ``x W^T + b + sum_i (x s_i A_i^T) B_i^T``; update i affects its layer's columns."""

    def __init__(self, parts: Sequence[Parts], dtype: torch.dtype, *, packed: bool, matrices: Matrices) -> None:
        self.matrix = matrices.find([part.weight for part in parts], dtype, packed=packed)
        self._biases = tuple(part.bias for part in parts)
        self._bias = _Bias(parts, dtype)
        self._factors = _LoraFactors(parts, dtype) if any(part.update is not None for part in parts) else None
        self.parameters: tuple[Tensor, ...] = self._bias.parameters + (
            () if self._factors is None else self._factors.parameters
        )

    @property
    def bias(self) -> Tensor | None:
        """``(O,)`` in the dtype of the products."""
        return self._bias.read()

    def has_the_bias_of(self, other: LoraProduct) -> bool:
        """Return True if both use the same bias objects."""
        return all(mine is theirs for mine, theirs in zip(self._biases, other._biases, strict=True))

    def update(self, x: Tensor) -> Tensor | None:
        """Return the low-rank part alone for ``(N, I)`` fp32, in fp32; ``None`` without LoRA."""
        if self._factors is None:
            return None
        a, b = self._factors.read()
        return x @ a.float().t() @ b.float().t()

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """Map ``(N, I)`` to ``(N, O)``."""
        output = self.matrix.forward(x, self.bias)
        if self._factors is None:
            return output, ()
        a, b = self._factors.read()
        low = x @ a.t()
        output.addmm_(low, b.t())
        return output, (x if self._factors.trains_a else None, low, a, b)

    def backward(self, gradient: Tensor, saved: tuple[Any, ...], *, wants_x: bool) -> tuple[Tensor | None, Gradients]:
        """Return the gradients of the input, the biases and the factors."""
        grad_x = self.matrix.backward(gradient) if wants_x else None
        grads = self._bias.backward(gradient)
        if self._factors is not None:
            x, low, a, b = saved
            grad_a = None
            if grad_x is not None or x is not None:
                grad_low = gradient @ b
                if grad_x is not None:
                    grad_x.addmm_(grad_low, a)
                if x is not None:
                    grad_a = grad_low.t() @ x
            grads += self._factors.split(grad_a, gradient.t() @ low)
        return grad_x, grads


class TrainedProduct:
    """Trained layers as one product in the input's dtype."""

    def __init__(self, parts: Sequence[Parts], dtype: torch.dtype) -> None:
        self._weights = [part.weight for part in parts]
        self._bias = _Bias(parts, dtype)
        self._dtype = dtype
        self.parameters = (*self._bias.parameters, *self._weights)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Map ``(N, I)`` to ``(N, O)``."""
        cast = [weight.detach().to(self._dtype) for weight in self._weights]
        joined = cast[0] if len(cast) == 1 else torch.cat(cast)
        return nn.functional.linear(x, joined, self._bias.read()), (x, joined)

    def backward(
        self, gradient: Tensor, saved: tuple[Tensor, Tensor], *, wants_x: bool
    ) -> tuple[Tensor | None, Gradients]:
        """Return the gradients of the input, the biases and the weights."""
        x, joined = saved
        grad_x = gradient @ joined if wants_x else None
        widths = [weight.shape[0] for weight in self._weights]
        grad_weights = torch.split((gradient.t() @ x).to(self._weights[0].dtype), widths)
        return grad_x, [*self._bias.backward(gradient), *grad_weights]


class _Bias:
    """The joined biases of several layers; a layer without a bias gets zeros."""

    def __init__(self, parts: Sequence[Parts], dtype: torch.dtype) -> None:
        self._parts, self._dtype = list(parts), dtype
        self.parameters = tuple(part.bias for part in parts if part.bias is not None and part.bias.requires_grad)
        self._frozen = None if self.parameters else self._join()

    def read(self) -> Tensor | None:
        """``(O,)`` in the dtype of the products."""
        return self._join() if self.parameters else self._frozen

    def _join(self) -> Tensor | None:
        if all(part.bias is None for part in self._parts):
            return None
        biases = [
            part.weight.new_zeros(part.weight.shape[0]) if part.bias is None else part.bias.detach()
            for part in self._parts
        ]
        return (biases[0] if len(biases) == 1 else torch.cat(biases)).to(self._dtype)

    def backward(self, gradient: Tensor) -> Gradients:
        if not self.parameters:
            return []
        # A product with ones: summing the rows took longer than computing a weight's gradient.
        total = (gradient.new_ones(1, len(gradient)) @ gradient).view(-1).to(self.parameters[0].dtype)
        shares = torch.split(total, [part.weight.shape[0] for part in self._parts])
        return [
            share
            for share, part in zip(shares, self._parts, strict=True)
            if part.bias is not None and part.bias.requires_grad
        ]


class _LoraFactors:
    """All LoRA factors of joined layers: ``s_i A_i`` stacked by rows, each B_i in its layer's rows.

    Trained factors are copied in each forward pass: torch's fused optimizers do not increment a parameter's version.
    """

    def __init__(self, parts: Sequence[Parts], dtype: torch.dtype) -> None:
        self._updates: list[LoraUpdate] = []
        rows: list[slice] = []
        start = 0
        for part in parts:
            if part.update is not None:
                self._updates.append(part.update)
                rows.append(slice(start, start + part.weight.shape[0]))
            start += part.weight.shape[0]
        ranks = [update.a.shape[0] for update in self._updates]
        first = self._updates[0].a
        self._a = torch.empty(sum(ranks), first.shape[1], dtype=dtype, device=first.device)
        self._b = torch.zeros(start, sum(ranks), dtype=dtype, device=first.device)
        self._ranks = ranks
        self._a_parts = torch.split(self._a, ranks)
        self._b_parts = [block[row] for block, row in zip(torch.split(self._b, ranks, dim=1), rows, strict=True)]
        self._rows = rows
        self.parameters = tuple(factor for update in self._updates for factor in (update.a, update.b))
        self.trains_a = any(update.a.requires_grad for update in self._updates)
        self._trained = any(factor.requires_grad for factor in self.parameters)
        self._read = False

    @torch.no_grad()
    def read(self) -> tuple[Tensor, Tensor]:
        """Return the scaled A ``(R, I)`` and B ``(O, R)``; R is the sum of the ranks."""
        if self._read and not self._trained:
            return self._a, self._b
        for update, a, b in zip(self._updates, self._a_parts, self._b_parts, strict=True):
            torch.mul(update.a, update.scaling, out=a)
            b.copy_(update.b)
        self._read = True
        return self._a, self._b

    def split(self, grad_a: Tensor | None, grad_b: Tensor) -> Gradients:
        """Split the joined factors' gradients into the parameters' gradients, in order."""
        dtype = self._updates[0].a.dtype
        grads: Gradients = []
        a_parts = [None] * len(self._ranks) if grad_a is None else torch.split(grad_a.to(dtype), self._ranks)
        b_parts = torch.split(grad_b.to(dtype), self._ranks, dim=1)
        for update, row, a, b in zip(self._updates, self._rows, a_parts, b_parts, strict=True):
            grads += [None if a is None else a * update.scaling, b[row]]
        return grads
