"""Rows of a padded batch that are tokens: products, norms and activations run over these only, on a processor.

Exact, since padding is zero after the heads; the reference is the block over all rows.
Source: Zhai et al. 2023 (ByteTransformer), arXiv:2210.03052; here with the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from feathertune.engine.kernels.attention import MASKED

# Skipping a smaller share of rows costs more than it saves.
_LEAST_SHARE = 0.06
# Libraries compile a product for each number of rows, so numbers are rounded up, in steps of an eighth.
_LEAST_STEP, _LARGEST_STEP = 8, 64


@dataclass(frozen=True)
class Tokens:
    """The N token rows of a batch of B texts of T rows.

    `places` ``(N + some,)`` are their indices among ``B T`` rows, in order, then repeated ones as filling.
    """

    places: Tensor
    n: int
    n_rows: int

    @classmethod
    def of(cls, mask: Tensor | None) -> Tokens | None:
        """Return the tokens of an additive mask ``(B, 1, 1, T)``; ``None`` if running all rows is faster."""
        if mask is None or mask.device.type != "cpu":
            return None
        places = (mask.reshape(-1) > MASKED / 2).nonzero().view(-1)
        n, n_rows = len(places), mask.shape[0] * mask.shape[-1]
        if not it_pays(n, n_rows):
            return None
        return cls(torch.cat([places, places[:1].expand(filled_up(n) - n)]), n, n_rows)

    def take(self, rows: Tensor) -> Tensor:
        """``(B T, .)`` to ``(N + some, .)``."""
        return rows.index_select(0, self.places)

    def put(self, rows: Tensor) -> Tensor:
        """``(N + some, .)`` to ``(B T, .)``, zeros for padding: also the gradient of `take`."""
        return rows.new_zeros(self.n_rows, rows.shape[1]).index_copy_(0, self.places[: self.n], rows[: self.n])

    def take_gradient(self, gradient: Tensor) -> Tensor:
        """Return the gradient of `put`: `take`, with zeros for the filling."""
        taken = self.take(gradient)
        taken[self.n :] = 0
        return taken


def it_pays(n: int, n_rows: int) -> bool:
    """Return whether running `n` tokens alone is faster than running all rows."""
    return 0 < filled_up(n) <= (1 - _LEAST_SHARE) * n_rows


def filled_up(n: int) -> int:
    """Return the number of rows that `n` tokens are run as."""
    step = min(_LARGEST_STEP, max(_LEAST_STEP, 1 << max(0, n.bit_length() - 4)))
    return -(-n // step) * step
