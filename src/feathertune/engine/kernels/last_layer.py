"""The last block for the one token that the head reads. Exact; the reference is the block over all rows.

Keys and values need not be formed: with ``q`` the one query of a head, ``q . (W_K x_j) = (W_K^T q) . x_j`` and
``sum_j p_j W_V x_j = W_V (sum_j p_j x_j)``, two thin products with the block's input. The keys' bias cancels in the
softmax, and LoRA's factors move in the same way. Derivation: our own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from feathertune.engine.kernels.attention import attend
from feathertune.engine.kernels.block import AfterAttention, attention_dropout, padding_row
from feathertune.engine.kernels.layer import Gradients, run
from feathertune.engine.kernels.linear import Arithmetic, Parts, read_parts
from feathertune.engine.kernels.matrix import Matrices
from feathertune.engine.kernels.multi_model_layers import ModelRows, combine_layers
from feathertune.engine.kernels.norm import dropout_share

if TYPE_CHECKING:
    from feathertune.encoders import EncoderSpec


# From the query (B, H, d), the block's input (B, T, D), the mask and a dropout to (B, H, d).
_Attend = Callable[[Tensor, Tensor, Tensor | None, float], Tensor]


class FirstTokenBlock:
    """The forward of the last block for the first token; keys and values that PEFT changed beyond LoRA are formed."""

    def __init__(
        self, module: nn.Module, spec: EncoderSpec, *, n_heads: int, arithmetic: Arithmetic, form_keys: bool = False
    ) -> None:
        self._dtype, self._n_heads = arithmetic.dtype, n_heads
        self._query = arithmetic.product(module, *spec.query)
        self._after = AfterAttention(module, spec, arithmetic)
        self._dropout = attention_dropout(module, spec)
        key, value = (read_parts(module.get_submodule(*names)) for names in (spec.key, spec.value))
        self._attend: _Attend
        if form_keys or not arithmetic.fused or key is None or value is None:
            self._attend = _ExplicitKeys(module, spec, n_heads, arithmetic)
        else:
            self._attend = _ImplicitKeys(
                *(_HeadProjection(one, n_heads, self._dtype, arithmetic.matrices) for one in (key, value))
            )

    def __call__(self, hidden_states: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:  # noqa: ANN401
        """``(B, T, D)`` to ``(B, 1, D)``, in the dtype of the products."""
        x = hidden_states.to(self._dtype)
        first = x[:, 0].contiguous()
        query = run(self._query, first).view(len(x), self._n_heads, -1)
        attended = self._attend(query, x, padding_row(attention_mask, self._dtype), dropout_share(self._dropout))
        rows = torch.cat([attended.reshape(len(x), -1), first], dim=1)
        return run(_FirstTokens(self._after), rows).unsqueeze(1)

    @classmethod
    def combine(cls, blocks: Sequence[FirstTokenBlock], rows: ModelRows) -> FirstTokenBlock:
        """Combine the last block of several models on one encoder; forward only."""
        one = copy.copy(blocks[0])
        one._query = combine_layers([block._query for block in blocks], rows)
        one._after = AfterAttention.combine([block._after for block in blocks], rows)
        one._attend = _PerModelAttention([block._attend for block in blocks], rows)
        return one


class _FirstTokens:
    """`AfterAttention` over first tokens: heads' outputs and inputs in one tensor, ``(B, 2 D)`` to ``(B, D)``."""

    def __init__(self, after: AfterAttention) -> None:
        self._after, self.parameters = after, after.parameters

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        attended, first = x.chunk(2, dim=1)
        return self._after.forward(attended.contiguous(), first.contiguous())

    def backward(self, gradient: Tensor, saved: Any, *, wants_x: bool) -> tuple[Tensor | None, Gradients]:  # noqa: ANN401
        grad_attended, grad_first, grads = self._after.backward(gradient, saved)
        return torch.cat([grad_attended, grad_first], dim=1), grads


class _ExplicitKeys:
    def __init__(self, module: nn.Module, spec: EncoderSpec, n_heads: int, arithmetic: Arithmetic) -> None:
        self._key_value = arithmetic.product(module, *spec.key, *spec.value)
        self._n_heads = n_heads

    def __call__(self, query: Tensor, x: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
        b, t, width = x.shape
        joined = run(self._key_value, x.reshape(b * t, width)).view(b, t, 2, self._n_heads, -1)
        k, v = joined.permute(2, 0, 3, 1, 4).unbind(0)
        scaling = query.shape[-1] ** -0.5
        return attend(query.unsqueeze(2), k, v, mask, scaling=scaling, dropout=dropout).squeeze(2)


class _ImplicitKeys:
    def __init__(self, key: _HeadProjection, value: _HeadProjection) -> None:
        self._key, self._value = key, value

    def __call__(self, query: Tensor, x: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
        projected = self._key.transposed(query * query.shape[-1] ** -0.5)
        scores = torch.bmm(projected, x.transpose(1, 2))
        if mask is not None:
            scores = scores + mask[:, :, 0]
        p = nn.functional.dropout(scores.softmax(-1), dropout)
        return self._value.forward(torch.bmm(p, x), p.sum(-1, keepdim=True))


class _PerModelAttention:
    def __init__(self, attends: Sequence[_Attend], rows: ModelRows) -> None:
        self._attends, self._rows = attends, rows

    def __call__(self, query: Tensor, x: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
        parts = [
            attend(query[rows], x[rows], None if mask is None else mask[rows], dropout)
            for attend, rows in zip(self._attends, self._rows.slices(len(query)), strict=True)
        ]
        return torch.cat(parts)


class _HeadProjection:
    """A linear layer cut into heads: weight ``(H, d, D)``."""

    def __init__(self, parts: Parts, n_heads: int, dtype: torch.dtype, matrices: Matrices) -> None:
        self._parts, self._n_heads, self._dtype = parts, n_heads, dtype
        frozen = not parts.weight.requires_grad
        self._frozen = matrices.find([parts.weight], dtype, packed=False).weight if frozen else None

    def transposed(self, rows: Tensor) -> Tensor:
        """``W_h^T r_h`` of each head: ``(B, H, d)`` to ``(B, H, D)``."""
        rows = rows.transpose(0, 1)
        result = torch.bmm(rows, self._cut(self._weight()))
        if (update := self._parts.update) is not None:
            low = torch.bmm(rows, self._cut(update.b.to(self._dtype))) * update.scaling
            result = result + low @ update.a.to(self._dtype)
        return result.transpose(0, 1)

    def forward(self, rows: Tensor, weights: Tensor) -> Tensor:
        """``W_h c_h + w_h b_h`` of each head: ``(B, H, D)`` and ``(B, H, 1)`` to ``(B, H, d)``."""
        columns = rows.transpose(0, 1)
        result = torch.bmm(columns, self._cut(self._weight()).transpose(1, 2))
        if (update := self._parts.update) is not None:
            low = (columns @ update.a.to(self._dtype).t()) * update.scaling
            result = result + torch.bmm(low, self._cut(update.b.to(self._dtype)).transpose(1, 2))
        result = result.transpose(0, 1)
        if self._parts.bias is not None:
            result = result + weights * self._parts.bias.to(self._dtype).view(self._n_heads, -1)
        return result

    def _weight(self) -> Tensor:
        return self._parts.weight.to(self._dtype) if self._frozen is None else self._frozen

    def _cut(self, matrix: Tensor) -> Tensor:
        """``(H d, .)`` to ``(H, d, .)``."""
        return matrix.view(self._n_heads, -1, matrix.shape[-1])
