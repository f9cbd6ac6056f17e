"""Pieces of several models over the rows of one pass: one product for all rows where they share a weight.

The rows of a pass are texts, all of one model, then all of the next. A frozen weight multiplies all of them at once and
each model's low-rank update only its own; what a model does otherwise, it does to its own rows. Exact, whatever the
methods are. The reference is each model over its own rows. Only without gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from feathertune.engine.layer import Gradients, Layer
from feathertune.engine.linear import Frozen
from feathertune.engine.norm import AddNorm, SumNorm

_FORWARD_ONLY = "Models that run together have no gradient."


@dataclass(frozen=True)
class Shares:
    """Whose the texts of a pass are: so many of the first model, so many of the second, and so on."""

    sizes: tuple[int, ...]

    @property
    def n_texts(self) -> int:
        """B."""
        return sum(self.sizes)

    def rows(self, n: int) -> list[slice]:
        """Each model's part of `n` rows, of which every text has equally many."""
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
    """Frozen layers on one weight."""

    def __init__(self, layers: Sequence[Frozen], shares: Shares) -> None:
        self._layers, self._shares = layers, shares
        self._same_bias = all(layer.has_the_bias_of(layers[0]) for layer in layers)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """``(N, I)`` to ``(N, O)``."""
        first = self._layers[0]
        output = first.matrix.forward(x, first.bias if self._same_bias else None)
        for layer, rows in zip(self._layers, self._shares.rows(len(x)), strict=True):
            if not self._same_bias and layer.bias is not None:
                output[rows] += layer.bias
            layer.add_update(output[rows], x[rows])
        return output, None


class _EachItsOwn(_ForwardOnly):
    """Layers that have nothing in common."""

    def __init__(self, layers: Sequence[Layer], shares: Shares) -> None:
        self._layers, self._shares = layers, shares

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """``(N, I)`` to ``(N, O)``."""
        rows = self._shares.rows(len(x))
        return torch.cat([layer.forward(x[part])[0] for layer, part in zip(self._layers, rows, strict=True)]), None


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
