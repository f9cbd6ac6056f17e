"""A frozen weight, laid out once for the processor; torch lays a bf16 weight out again in each product."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

# oneDNN chooses the layout for this many rows; any other number works too.
_TYPICAL_ROWS = 2048


class FrozenMatrix:
    """The weight ``(O, I)`` of a frozen linear layer; without `packed` torch's plain product, the reference."""

    def __init__(self, weight: Tensor, dtype: torch.dtype, *, packed: bool = True) -> None:
        self.weight = weight.detach().to(dtype).contiguous()
        self._packed: Tensor | None = None
        self.made_of: tuple[Tensor, ...] = ()  # held, so that no other tensor gets their id
        # A weight that is in bf16 already is one of a large model, whose second copy would not be worth its memory.
        if packed and weight.dtype != dtype and _can_pack(self.weight):
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight, _TYPICAL_ROWS)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """``x W^T + b``: ``(N, I)`` to ``(N, O)``, without a graph."""
        if self._packed is None:
            return nn.functional.linear(x, self.weight, bias)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, bias, "none", [], "none")
        return product

    def backward(self, gradient: Tensor) -> Tensor:
        """``g W``: the gradient of the output ``(N, O)`` to that of the input ``(N, I)``."""
        return gradient @ self.weight


class Matrices:
    """Frozen matrices by their weights, so that models which share parameters share their copies too."""

    def __init__(self) -> None:
        self._kept: weakref.WeakValueDictionary[Hashable, FrozenMatrix] = weakref.WeakValueDictionary()

    def find(self, weights: Sequence[Tensor], dtype: torch.dtype, *, packed: bool) -> FrozenMatrix:
        """Return the matrix of weights ``(O_i, I)``, stacked in rows; see `FrozenMatrix`."""
        key = (dtype, packed, *map(id, weights))
        found = self._kept.get(key)
        if found is None:
            found = FrozenMatrix(_joined(weights, dtype), dtype, packed=packed)
            found.made_of = tuple(weights)
            self._kept[key] = found
        return found


def _joined(weights: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Return weights ``(O_i, I)`` as one; those in `dtype` become views of it, so that there is no second copy."""
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
        return first.as_strided((sum(rows), width), (width, 1))  # they were joined before
    with torch.inference_mode(False), torch.no_grad():  # a tensor made in inference mode could not be trained beside
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
