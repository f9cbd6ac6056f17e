"""Run one layer of several models over a shared pass. Forward only; the reference is each model alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, NoReturn

import torch
from torch import Tensor

from feathertune.engine.kernels.layer import Layer
from feathertune.engine.kernels.linear import LoraProduct
from feathertune.engine.kernels.norm import Norm, Residual
from feathertune.engine.kernels.tokens import filled_up, it_pays


@dataclass(frozen=True)
class ModelRows:
    """Number of texts per model in one pass, and of tokens if blocks run over tokens only (else empty)."""

    sizes: tuple[int, ...]
    tokens: tuple[int, ...] = ()

    @classmethod
    def of_batch(cls, sizes: tuple[int, ...], batch: Mapping[str, Tensor]) -> ModelRows:
        """Return the rows of a batch ``(B, T)``, whose texts are ordered by model."""
        if (mask := batch.get("attention_mask")) is None:
            return cls(sizes)
        tokens = tuple(int(part.sum()) for part in torch.split(mask, list(sizes)))
        return cls(sizes, tokens if it_pays(sum(tokens), mask.numel()) else ())

    @property
    def n_texts(self) -> int:
        """Number of texts, B."""
        return sum(self.sizes)

    def slices(self, n: int) -> list[slice]:
        """Return each model's slice of `n` rows, which are tokens (padding goes last) or equally many rows per text."""
        if self.tokens and n == filled_up(sum(self.tokens)):
            *others, (start, _) = pairwise(accumulate(self.tokens, initial=0))
            return [*(slice(start, end) for start, end in others), slice(start, n)]
        per_text = n // self.n_texts
        return [slice(start * per_text, end * per_text) for start, end in pairwise(accumulate(self.sizes, initial=0))]


def combine_layers(layers: Sequence[Layer], rows: ModelRows) -> Layer:
    """Combine one layer of each model into one."""
    first = layers[0]
    if isinstance(first, Norm) and all(isinstance(layer, Norm) and layer.is_the_same_as(first) for layer in layers):
        return first
    products = [layer for layer in layers if isinstance(layer, LoraProduct)]
    if len(products) == len(layers) and all(layer.matrix is products[0].matrix for layer in products):
        return _SharedWeight(products, rows)
    return _PerModel(layers, rows)


class _ForwardOnly:
    parameters: tuple[Tensor, ...] = ()

    def backward(self, gradient: Tensor, saved: Any, *, wants_x: bool = True) -> NoReturn:  # noqa: ANN401
        raise RuntimeError("Models that run in one pass have no gradient.")


class _SharedWeight(_ForwardOnly):
    """Frozen layers with a shared weight. Updates run in fp32: oneDNN keeps memory for each row count in bf16."""

    def __init__(self, layers: Sequence[LoraProduct], rows: ModelRows) -> None:
        self._layers, self._rows = layers, rows
        self._same_bias = all(layer.has_the_bias_of(layers[0]) for layer in layers)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        first = self._layers[0]
        output = first.matrix.forward(x, first.bias if self._same_bias else None)
        wide = x.float()
        with torch.autocast(x.device.type, enabled=False):  # autocast would use bf16 again
            for layer, rows in zip(self._layers, self._rows.slices(len(x)), strict=True):
                if not self._same_bias and layer.bias is not None:
                    output[rows] += layer.bias
                if (update := layer.update(wide[rows])) is not None:
                    output[rows] += update
        return output, None


class _PerModel(_ForwardOnly):
    def __init__(self, layers: Sequence[Layer], rows: ModelRows) -> None:
        self._layers, self._rows = layers, rows

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        slices = self._rows.slices(len(x))
        outputs = [_on_few_rows(layer, x[part]) for layer, part in zip(self._layers, slices, strict=True)]
        return torch.cat(outputs), None


def _on_few_rows(layer: Layer, x: Tensor) -> Tensor:
    """Run a layer over rows padded to one of a few row counts: libraries keep memory for each count."""
    n = len(x)
    filled = torch.nn.functional.pad(x, (0, 0, 0, filled_up(n) - n))
    return layer.forward(filled)[0][:n]


class CombinedResiduals(_ForwardOnly):
    """The residual additions of several models; forward only."""

    def __init__(self, parts: Sequence[Residual | CombinedResiduals], rows: ModelRows) -> None:
        self._parts, self._rows = parts, rows
        first = parts[0]
        self._all_same = isinstance(first, Residual) and all(
            isinstance(part, Residual) and part.is_the_same_as(first) for part in parts
        )

    def forward(self, x: Tensor, residual: Tensor) -> tuple[Tensor, None]:
        """Return the sums or their norms, ``(N, D)``."""
        if self._all_same:
            return self._parts[0].forward(x, residual)[0], None
        slices = self._rows.slices(len(x))
        made = [part.forward(x[place], residual[place])[0] for part, place in zip(self._parts, slices, strict=True)]
        return torch.cat(made), None
