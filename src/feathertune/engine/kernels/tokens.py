"""Skip padding: on a CPU, products, norms and activations run only over the token rows of a padded batch.

Exact, because padding is zero after the heads; the reference is the block over all rows.
Source: Zhai et al. 2023 (ByteTransformer), arXiv:2210.03052; here with the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from feathertune.engine.kernels.attention import MASKED, as_added

# Skipping a smaller share of rows costs more than it saves.
_LEAST_SHARE = 0.06
# Libraries compile a product for each row count, so counts are rounded up in steps of an eighth.
_LEAST_STEP, _LARGEST_STEP = 8, 64


@dataclass(frozen=True)
class Tokens:
    """The N token rows of a batch of B texts with T rows each.

    `places` ``(N + some,)`` holds their indices among the ``B T`` rows, in order, then repeated indices as filler.
    `sources` ``(B T,)`` is the inverse, 0 for padding; `padding` holds the indices of padding rows.
    """

    places: Tensor
    sources: Tensor
    padding: Tensor
    n: int

    @classmethod
    def of(cls, mask: Tensor | None) -> Tokens | None:
        """Return the tokens of an additive mask ``(B, 1, 1 or T, T)``; ``None`` if running all rows is faster."""
        if mask is None or mask.device.type != "cpu":
            return None
        seen = (mask > MASKED / 2).any(dim=2)  # a token attends to itself, and nothing attends to padding
        places = seen.view(-1).nonzero().view(-1)
        n, n_rows = len(places), mask.shape[0] * mask.shape[-1]
        if not it_pays(n, n_rows):
            return None
        sources = places.new_zeros(n_rows).index_copy_(0, places, torch.arange(n))
        padding = seen.view(-1).logical_not().nonzero().view(-1)
        return cls(torch.cat([places, places[:1].expand(filled_up(n) - n)]), sources, padding, n)

    def take(self, rows: Tensor) -> Tensor:
        """Select the token rows: ``(B T, .)`` to ``(N + some, .)``."""
        return rows.index_select(0, self.places)

    def put(self, rows: Tensor) -> Tensor:
        """Scatter ``(N + some, .)`` to ``(B T, .)`` with zeros for padding; also the gradient of `take`."""
        return self.spread(rows).index_fill_(0, self.padding, 0)

    def spread(self, rows: Tensor) -> Tensor:
        """Scatter ``(N + some, .)`` to ``(B T, .)`` with arbitrary rows for padding, twice as fast as `put`."""
        return rows.index_select(0, self.sources)

    def take_gradient(self, gradient: Tensor) -> Tensor:
        """Return the gradient of `put`: `take` with zeros for the filler rows."""
        taken = self.take(gradient)
        taken[self.n :] = 0
        return taken


class Masks:
    """The masks of a pass, converted once for all blocks; some model families have two masks."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._read: list[tuple[Tensor, Tensor, Tokens | None]] = []

    def read(self, mask: Tensor | None, *, of_ones: bool = False) -> tuple[Tensor | None, Tokens | None]:
        """Return transformers' bool or additive mask ``(B, 1, 1 or T, T)`` as an additive mask, and its tokens.

        With `of_ones`, the mask holds ones and zeros of any dtype.
        """
        if mask is None:
            return None, None
        for known, added, tokens in self._read:
            if known is mask:
                return added, tokens
        found = as_added(mask.bool() if of_ones else mask, self._dtype)
        assert found is not None, "mask is not None"
        self._read = [*self._read[-1:], (mask, found, Tokens.of(found))]
        return self._read[-1][1:]


def it_pays(n: int, n_rows: int) -> bool:
    """Return True if running only `n` tokens is faster than running all rows."""
    return 0 < filled_up(n) <= (1 - _LEAST_SHARE) * n_rows


def filled_up(n: int) -> int:
    """Return the number of rows, including filler, used to run `n` tokens."""
    step = min(_LARGEST_STEP, max(_LEAST_STEP, 1 << max(0, n.bit_length() - 4)))
    return -(-n // step) * step
