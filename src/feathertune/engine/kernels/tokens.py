"""The rows of a padded batch that are tokens: what a block does row by row is done for these alone.

Texts of a batch differ in length, and on sentences a fifth of the rows are padding, more where texts of all lengths
come together, as in a server. Products, norms and activations see no neighbours, so they run over tokens only; only
between heads do the rows stand in their places. Padding comes out as zeros, which no head reads. Exact; the reference
is the block over all rows. Not for a GPU, where gathering costs more than the products that it saves.

Source: the padding-free algorithm of Zhai et al. 2023 (ByteTransformer), arXiv:2210.03052; here with the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from feathertune.engine.kernels.attention import MASKED

# Below that share of rows to leave out, gathering and putting back costs what it saves.
_LEAST_SHARE = 0.06
# Libraries prepare a product for each number of rows anew, so that numbers are rounded up: in steps of an eighth.
_LEAST_STEP, _LARGEST_STEP = 8, 64


@dataclass(frozen=True)
class Tokens:
    """Which rows of a batch of B texts of T rows are tokens.

    Attributes:
        places: Of N tokens among ``B T`` rows, in order, and then some again to fill up, ``(N + some,)`` int64.
        n: N.
        n_rows: ``B T``.
    """

    places: Tensor
    n: int
    n_rows: int

    @classmethod
    def of(cls, mask: Tensor | None) -> Tokens | None:
        """Find them.

        Args:
            mask: Added to the scores, ``(B, 1, 1, T)``; ``None`` where every row is a token.

        Returns:
            ``None`` where it does not pay to leave the others out.
        """
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
        """``(N + some, .)`` to ``(B T, .)``, zeros where there is padding: the gradient of `take`, too."""
        return rows.new_zeros(self.n_rows, rows.shape[1]).index_copy_(0, self.places[: self.n], rows[: self.n])

    def take_gradient(self, gradient: Tensor) -> Tensor:
        """The gradient of `put`: as `take`, and zeros for what only fills up."""
        taken = self.take(gradient)
        taken[self.n :] = 0
        return taken


def it_pays(n: int, n_rows: int) -> bool:
    """Whether `n` tokens among so many rows are better run alone."""
    return 0 < filled_up(n) <= (1 - _LEAST_SHARE) * n_rows


def filled_up(n: int) -> int:
    """The number of rows that `n` tokens are run as."""
    step = min(_LARGEST_STEP, max(_LEAST_STEP, 1 << max(0, n.bit_length() - 4)))
    return -(-n // step) * step
