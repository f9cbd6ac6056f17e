"""Pieces of several models over the rows of one pass: one product for all rows where they share a weight.

The rows of a pass are texts, all of one model, then all of the next. A frozen weight multiplies all of them at once and
each model's low-rank update only its own; what a model does otherwise, it does to its own rows. Exact, whatever the
methods are. The reference is each model over its own rows. Only without gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from feathertune.engine.kernels.layer import Gradients, Layer
from feathertune.engine.kernels.linear import Frozen
from feathertune.engine.kernels.norm import AddNorm, SumNorm
from feathertune.engine.kernels.tokens import filled_up, it_pays

_FORWARD_ONLY = "Models that run together have no gradient."


@dataclass(frozen=True)
class Shares:
    """Whose the texts of a pass are: so many of the first model, so many of the second, and so on.

    Attributes:
        sizes: Texts of each model.
        tokens: Tokens of each model's texts where blocks run over tokens alone; empty where they run over all rows.
    """

    sizes: tuple[int, ...]
    tokens: tuple[int, ...] = ()

    @classmethod
    def of(cls, sizes: tuple[int, ...], batch: Mapping[str, Tensor]) -> Shares:
        """With the tokens of a batch, texts ``(B, T)`` in the order of the models."""
        if (mask := batch.get("attention_mask")) is None:
            return cls(sizes)
        tokens = tuple(int(part.sum()) for part in torch.split(mask, list(sizes)))
        return cls(sizes, tokens if it_pays(sum(tokens), mask.numel()) else ())

    @property
    def n_texts(self) -> int:
        """B."""
        return sum(self.sizes)

    def rows(self, n: int) -> list[slice]:
        """Each model's part of `n` rows: tokens alone and some to fill up, or of every text equally many."""
        if self.tokens and n == filled_up(sum(self.tokens)):
            *others, (start, _) = pairwise(accumulate(self.tokens, initial=0))
            return [*(slice(start, end) for start, end in others), slice(start, n)]
        of_each = n // self.n_texts
        return [slice(start * of_each, end * of_each) for start, end in pairwise(accumulate(self.sizes, initial=0))]


def layers_together(layers: Sequence[Layer], shares: Shares) -> Layer:
    """One layer of each model as one.

    Args:
        layers: One for each model.
        shares: Of the texts.
    """
    frozen = [layer for layer in layers if isinstance(layer, Frozen)]
    if len(frozen) == len(layers) and all(layer.matrix is frozen[0].matrix for layer in frozen):
        return _OneProduct(frozen, shares)
    return _EachItsOwn(layers, shares)


class _ForwardOnly:
    parameters: tuple[Tensor, ...] = ()

    def backward(self, gradient: Tensor, saved: Any, *, wants_x: bool) -> tuple[Tensor | None, Gradients]:  # noqa: ANN401
        """There is none."""
        raise RuntimeError(_FORWARD_ONLY)


class _OneProduct(_ForwardOnly):
    """Frozen layers on one weight.

    The updates are in fp32: they are small, and of bf16 products oneDNN keeps half a megabyte for each number of rows,
    which here are as many as there are ways to share out a pass.
    """

    def __init__(self, layers: Sequence[Frozen], shares: Shares) -> None:
        self._layers, self._shares = layers, shares
        self._same_bias = all(layer.has_the_bias_of(layers[0]) for layer in layers)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """``(N, I)`` to ``(N, O)``."""
        first = self._layers[0]
        output = first.matrix.forward(x, first.bias if self._same_bias else None)
        wide = x.float()
        with torch.autocast(x.device.type, enabled=False):  # it would make the products bf16 again
            for layer, rows in zip(self._layers, self._shares.rows(len(x)), strict=True):
                if not self._same_bias and layer.bias is not None:
                    output[rows] += layer.bias
                if (update := layer.update(wide[rows])) is not None:
                    output[rows] += update
        return output, None


class _EachItsOwn(_ForwardOnly):
    """Layers that have nothing in common."""

    def __init__(self, layers: Sequence[Layer], shares: Shares) -> None:
        self._layers, self._shares = layers, shares

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """``(N, I)`` to ``(N, O)``."""
        rows = self._shares.rows(len(x))
        outputs = [_on_few_rows(layer, x[part]) for layer, part in zip(self._layers, rows, strict=True)]
        return torch.cat(outputs), None


def _on_few_rows(layer: Layer, x: Tensor) -> Tensor:
    """A layer over rows that are filled up, since libraries keep something for each number of rows."""
    n = len(x)
    filled = torch.nn.functional.pad(x, (0, 0, 0, filled_up(n) - n))
    return layer.forward(filled)[0][:n]


class NormsTogether:
    """The norm after a sum, of each model.

    Args:
        norms: One for each model.
        shares: Of the texts.
    """

    parameters: tuple[Tensor, ...] = ()

    def __init__(self, norms: Sequence[SumNorm], shares: Shares) -> None:
        self._norms, self._shares = norms, shares
        first = norms[0]
        self._all_alike = isinstance(first, AddNorm) and all(
            isinstance(norm, AddNorm) and norm.is_the_norm_of(first) for norm in norms
        )

    def forward(self, x: Tensor, residual: Tensor) -> tuple[Tensor, None]:
        """Each ``(N, D)``."""
        if self._all_alike:
            return self._norms[0].forward(x, residual)[0], None
        rows = self._shares.rows(len(x))
        parts = [norm.forward(x[part], residual[part])[0] for norm, part in zip(self._norms, rows, strict=True)]
        return torch.cat(parts), None

    def backward(self, gradient: Tensor, saved: Any) -> tuple[Tensor, Tensor, Gradients]:  # noqa: ANN401
        """There is none."""
        raise RuntimeError(_FORWARD_ONLY)
