"""Frozen weights in the CPU's layout, converted once; torch converts a bf16 weight again for every product."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

# oneDNN chooses the layout for this number of rows; other numbers work too.
_TYPICAL_ROWS = 2048


class FrozenMatrix:
    """A frozen linear layer's weight ``(O, I)``; without `packed` it uses torch's plain product, the reference."""

    def __init__(self, weight: Tensor, dtype: torch.dtype, *, packed: bool = True) -> None:
        self.weight = weight.detach().to(dtype).contiguous()
        self._packed: Tensor | None = None
        self.made_of: tuple[Tensor, ...] = ()  # kept alive, so that their ids are not reused
        # A weight already in bf16 belongs to a large model; a second copy would not be worth the memory.
        if packed and weight.dtype != dtype and _can_pack(self.weight):
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight, _TYPICAL_ROWS)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Compute ``x W^T + b``, ``(N, I)`` to ``(N, O)``, without a graph."""
        if self._packed is None:
            return nn.functional.linear(x, self.weight, bias)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, bias, "none", [], "none")
        return product

    def backward(self, gradient: Tensor) -> Tensor:
        """Compute ``g W``, the input's gradient ``(N, I)`` from the output's ``(N, O)``."""
        return gradient @ self.weight


class Matrices:
    """Frozen matrices by weight, so that models with common parameters share the copies too."""

    def __init__(self) -> None:
        self._kept: weakref.WeakValueDictionary[Hashable, FrozenMatrix] = weakref.WeakValueDictionary()

    def find(self, weights: Sequence[Tensor], dtype: torch.dtype, *, packed: bool) -> FrozenMatrix:
        """Return the matrix for weights ``(O_i, I)`` stacked by rows; see `FrozenMatrix`."""
        key = (dtype, packed, *map(id, weights))
        found = self._kept.get(key)
        if found is None:
            found = FrozenMatrix(_joined(weights, dtype), dtype, packed=packed)
            found.made_of = tuple(weights)
            self._kept[key] = found
        return found


def _joined(weights: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Return weights ``(O_i, I)`` joined; weights in `dtype` become views of the result, which avoids a second copy."""
    if len(weights) == 1:
        return weights[0]
    rows = [len(weight) for weight in weights]
    first, width = weights[0].detach(), weights[0].shape[1]
    starts = [first.storage_offset() + n * width for n in accumulate(rows, initial=0)]
    of_first = first.untyped_storage().data_ptr()
    if (
        all(w.untyped_storage().data_ptr() == of_first and w.is_contiguous() for w in weights)
        and [weight.storage_offset() for weight in weights] == starts[:-1]
    ):
        return first.as_strided((sum(rows), width), (width, 1))  # already joined
    with torch.inference_mode(False), torch.no_grad():  # autograd rejects tensors created in inference mode
        joined = torch.cat([weight.detach() for weight in weights])
    if first.dtype == dtype:
        for weight, part in zip(weights, torch.split(joined, rows), strict=True):
            weight.data = part
    return joined


def _can_pack(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )
