"""DeBERTa's disentangled attention: token to token, token to distance, and distance to token.

``scores[i, j] = q_i . k_j + q_i . K[i - j] + k_j . Q[i - j]``, where Q and K are projections of distance embeddings.
Each projection has one row for each of the ``2 T - 1`` distances in a batch, so a product with all rows holds each
score once, on a diagonal. The diagonals are read by strides; transformers gathers from all buckets instead.
Source: He et al. 2021, arXiv:2006.03654, section 3.1; reading by strides is our own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from feathertune.engine.kernels import attention
from feathertune.engine.kernels.layer import Gradients, Layer

if TYPE_CHECKING:
    from feathertune.encoders.block_form import BlockForm


class Distances:
    """Embeddings ``(2 S, D)`` of distances up to S, and the row of each distance from ``1 - T`` to ``T - 1``."""

    def __init__(self, embeddings: Tensor, relative: Tensor, *, dropout: float) -> None:
        """Take transformers' bucketed distances ``(1, T, T)``, query minus key, and the embeddings' dropout rate."""
        relative = relative.view(relative.shape[-2:]).long()
        rows = torch.cat([relative[0].flip(0), relative[1:, 0]])
        self.embeddings = nn.functional.dropout(embeddings, dropout)
        self.rows = (rows + embeddings.shape[0] // 2).clamp(0, embeddings.shape[0] - 1)


class DisentangledAttention:
    """Attention heads over joined queries, keys and values ``(B T, 3 H d)``, like `heads.SelfAttention`."""

    def __init__(
        self, form: BlockForm, projection: Layer, distances: Distances, mask: Tensor | None, dropout: float
    ) -> None:
        """Take a `projection` from embeddings ``(R, D)`` to Q and K, joined as ``(R, 2 H d)``."""
        self._form, self._projection, self._distances = form, projection, distances
        self._mask, self._dropout = mask, dropout
        self.parameters = (distances.embeddings, *projection.parameters)

    def forward(self, joined: Tensor, b: int) -> tuple[Tensor, Any]:
        """Return ``(B T, H d)`` for a batch of `b` texts, and what `backward` needs."""
        form, distances = self._form, self._distances
        q, k, v = joined.view(b, -1, 3, form.n_heads, form.head_size).permute(2, 3, 0, 1, 4).contiguous().unbind(0)
        made, of_projection = self._projection.forward(distances.embeddings[distances.rows].to(joined.dtype))
        of_query, of_key = made.view(len(made), 2, form.n_heads, -1).permute(1, 2, 3, 0).contiguous().unbind(0)
        bias = _diagonals(_product(q, of_key.flip(-1))) + _diagonals(_product(k, of_query)).transpose(2, 3)
        bias = bias.mul_(form.scaling).transpose(0, 1)
        if self._mask is not None:
            bias = bias + self._mask
        by_text = [part.transpose(0, 1) for part in (q, k, v)]
        output, saved = attention.forward(
            by_text[0], by_text[1], by_text[2], bias, scaling=form.scaling, dropout=self._dropout
        )
        rows = output.transpose(1, 2).reshape(len(joined), -1)
        return rows, (saved, of_projection, q, k, of_query, of_key)

    def backward(self, gradient: Tensor, saved: Any, b: int) -> tuple[Tensor, Gradients]:  # noqa: ANN401
        """Return the gradients of the joined tensor, the embeddings and the projection."""
        (of_attention, of_projection, q, k, of_query, of_key), form = saved, self._form
        heads = gradient.view(b, -1, form.n_heads, form.head_size).transpose(1, 2)
        grad_q, grad_k, grad_v, grad_scores = attention.backward(
            heads, of_attention, scaling=form.scaling, dropout=self._dropout
        )
        grad_scores = grad_scores.transpose(0, 1)  # (H, B, T, T)
        by_query = _off_diagonals(grad_scores)
        by_key = _off_diagonals(grad_scores.transpose(2, 3))
        joined = gradient.new_empty(b, heads.shape[2], 3, form.n_heads, form.head_size)
        places = joined.permute(2, 3, 0, 1, 4)
        for place, own, crossed, of_other in (
            (places[0], grad_q, by_query, of_key.flip(-1)),
            (places[1], grad_k, by_key, of_query),
        ):
            torch.add(own.transpose(0, 1), _product(crossed, of_other.transpose(1, 2)), out=place).mul_(form.scaling)
        places[2].copy_(grad_v.transpose(0, 1))
        grad_of_key = _product_over_texts(by_query, q).flip(1)
        grad_made = torch.stack([_product_over_texts(by_key, k), grad_of_key]).mul_(form.scaling)  # (2, H, R, d)
        rows = grad_made.permute(2, 0, 1, 3).reshape(grad_made.shape[2], -1)
        return joined.view(len(gradient), -1), self._to_embeddings(rows, of_projection)

    def _to_embeddings(self, gradient: Tensor, of_projection: Any) -> Gradients:  # noqa: ANN401
        distances = self._distances
        wanted = distances.embeddings.requires_grad
        found, grads = self._projection.backward(gradient, of_projection, wants_x=wanted)
        if not wanted or found is None:
            return [None, *grads]
        total = torch.zeros_like(distances.embeddings)
        return [total.index_add_(0, distances.rows, found.to(total.dtype)), *grads]


def _product(x: Tensor, other: Tensor) -> Tensor:
    """Multiply ``(H, B, T, d)`` by each head's ``(H, d, R)``, giving ``(H, B, T, R)``."""
    return torch.bmm(x.flatten(1, 2), other).view(*x.shape[:3], -1)


def _product_over_texts(gradient: Tensor, x: Tensor) -> Tensor:
    """Multiply ``(H, B, T, R)`` by ``(H, B, T, d)`` and sum over texts, giving ``(H, R, d)``."""
    return torch.bmm(gradient.flatten(1, 2).transpose(1, 2), x.flatten(1, 2))


def _diagonals(x: Tensor) -> Tensor:
    """View ``(H, B, T, 2 T - 1)`` as ``(H, B, T, T)``, taking entry i, j from column ``j - i + T - 1``."""
    h, b, t, width = x.shape
    return x.as_strided((h, b, t, t), (b * t * width, t * width, width - 1, 1), x.storage_offset() + t - 1)


def _off_diagonals(x: Tensor) -> Tensor:
    """Return the gradient of `_diagonals`."""
    h, b, t, _ = x.shape
    whole = x.new_zeros(h, b, t, 2 * t - 1)
    _diagonals(whole).copy_(x)
    return whole
