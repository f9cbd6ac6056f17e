"""Compute the last block only for the token that the head reads. Exact; the reference is the block over all rows.

Keys and values need not be formed. With ``q`` a head's single query, ``q . (W_K x_j) = (W_K^T q) . x_j`` and
``sum_j p_j W_V x_j = W_V (sum_j p_j x_j)``: two thin products with the block's input. The keys' bias cancels in the
softmax, and LoRA's factors move the same way. Derivation: our own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from feathertune.engine.kernels.attention import attend
from feathertune.engine.kernels.block import (
    AfterAttention,
    PositionTensors,
    combine_optional,
    optional_norm,
    rate,
    read_positions,
    stream_dtype,
)
from feathertune.engine.kernels.disentangled import Distances
from feathertune.engine.kernels.heads import HeadNorms, Rotary
from feathertune.engine.kernels.layer import Gradients, Layer, run
from feathertune.engine.kernels.linear import Arithmetic, Parts, read_parts
from feathertune.engine.kernels.multi_model_layers import ModelRows, combine_layers

if TYPE_CHECKING:
    from feathertune.encoders.block_form import BlockForm
    from feathertune.encoders.trial import ReadToken
    from feathertune.engine.kernels.tokens import Masks


class ReadTokens:
    """Positions of the tokens that the head reads; the backbone's forward records the token ids.

    As in transformers' decoders, the last token is the last one whose id is not the padding id.
    """

    def __init__(self, token: ReadToken, padding_id: int | None) -> None:
        self.token, self._padding_id = token, padding_id
        self._ids: Tensor | None = None

    def noting(self, own: Callable[..., Any]) -> Callable[..., Any]:
        """Return a backbone's forward that records its token ids ``(B, T)``, if it gets any."""

        def forward(*inputs: Any, **named: Any) -> Any:  # noqa: ANN401 - any backbone
            self._ids = inputs[0] if inputs else named.get("input_ids")
            return own(*inputs, **named)

        return forward

    def places(self, b: int, t: int, device: torch.device) -> Tensor:
        """Return the token's position in each of `b` texts of `t` tokens."""
        if self.token == "first":
            return torch.zeros(b, dtype=torch.long, device=device)
        if self._ids is None or self._padding_id is None:
            return torch.full((b,), t - 1, device=device)
        return ((self._ids != self._padding_id) * torch.arange(t, device=device)).argmax(dim=1)


@dataclass(frozen=True)
class _Reading:
    """Inputs of attention with one query per text: `x` ``(B, T, D)``, `places` ``(B,)``, masks ``(B, ., 1, T)``."""

    x: Tensor
    places: Tensor
    dropout: float
    rotary: Rotary | None
    distances: Distances | None
    mask: Tensor | None = None
    bias: Tensor | None = None

    def of(self, texts: slice) -> _Reading:
        """Return the inputs of some texts."""
        mask, bias = (None if added is None else added[texts] for added in (self.mask, self.bias))
        rotary = None if self.rotary is None else self.rotary.of(texts)
        return replace(self, x=self.x[texts], places=self.places[texts], mask=mask, bias=bias, rotary=rotary)

    def rows(self, x: Tensor) -> Tensor:
        """Select each text's token: ``(B, T, .)`` to ``(B, .)``."""
        return x[torch.arange(len(x), device=x.device), self.places]

    def of_query(self, added: Tensor | None) -> Tensor | None:
        """Return the single query's part of a mask or bias: ``(B, ., 1 or T, T)`` to ``(B, ., 1, T)``."""
        if added is None or added.shape[2] == 1:
            return added
        return self.rows(added.transpose(1, 2)).unsqueeze(2)


# Maps the query (B, H, d) to (B, H, d); the query is None if one layer computes queries, keys and values.
_Attend = Callable[[Tensor | None, _Reading], Tensor]


class OneTokenBlock:
    """The last block's forward for the token that the head reads.

    Keys and values are formed only if they are rotated, normalised or shared by heads, or if PEFT changed them beyond
    LoRA.
    """

    def __init__(
        self,
        module: nn.Module,
        form: BlockForm,
        *,
        arithmetic: Arithmetic,
        masks: Masks,
        read: ReadTokens,
        form_keys: bool = False,
    ) -> None:
        self.form, self._masks, self._read = form, masks, read
        self._before = optional_norm(module, form.attention_norms.before, arithmetic.dtype)
        self._query: Layer | None = arithmetic.product(module, form.query) if len(form.qkv) == 3 else None
        self._after = AfterAttention(module, form, arithmetic)
        self._rate = rate(module, form.attention_dropout)
        self._position_rate = rate(module, form.position_dropout)
        self._dtype, self._stream_dtype = arithmetic.dtype, stream_dtype(module, form, arithmetic.dtype)
        self._attend: _Attend
        key, value = (read_parts(module.get_submodule(name)) for name in (form.key, form.value))
        implicit = form.has_plain_heads and not form_keys and arithmetic.fused
        if not implicit or key is None or value is None:
            self._attend = _ExplicitKeys(module, form, arithmetic)
        else:
            projections = [_HeadProjection(one, form.n_heads, arithmetic) for one in (key, value)]
            self._attend = _ImplicitKeys(*projections, scaling=form.scaling)

    def __call__(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, positions: PositionTensors = ()
    ) -> Tensor:
        """Map ``(B, T, D)`` to ``(B, 1, D)``, or to ``(B, T, D)`` with equal rows if the head reads the last token."""
        b, t, width = hidden_states.shape
        x = hidden_states.to(self._stream_dtype)
        mask, _ = self._masks.read(attention_mask, of_ones=self.form.positions == "disentangled")
        normed = x.to(self._dtype)
        if self._before is not None:
            normed = run(self._before, x.reshape(b * t, width)).view(b, t, width)
        read = read_positions(self.form, positions, dropout=self._position_rate())
        reading = _Reading(normed, self._read.places(b, t, x.device), self._rate(), read.rotary, read.distances)
        reading = replace(reading, mask=reading.of_query(mask), bias=reading.of_query(read.bias))
        query = None
        if self._query is not None:
            query = run(self._query, reading.rows(normed)).view(b, self.form.n_heads, -1)
        attended = self._attend(query, reading).reshape(b, -1)
        layer = _OneToken(self._after, attended.shape[1], attended.dtype)
        output = run(layer, torch.cat([attended, reading.rows(x)], dim=1)).unsqueeze(1)
        return output if self._read.token == "first" else output.expand(b, t, width)

    @classmethod
    def combine(cls, blocks: Sequence[OneTokenBlock], rows: ModelRows) -> OneTokenBlock:
        """Combine the last block of several models on one encoder; forward only."""
        one = copy.copy(blocks[0])
        one._before = combine_optional([block._before for block in blocks], rows)
        queries = [block._query for block in blocks if block._query is not None]
        one._query = combine_layers(queries, rows) if queries else None
        one._after = AfterAttention.combine([block._after for block in blocks], rows)
        one._attend = _PerModelAttention([block._attend for block in blocks], rows)
        return one


class _OneToken:
    """`AfterAttention` over one token per text: maps heads' outputs and inputs, joined in one tensor, to ``(B, D)``."""

    def __init__(self, after: AfterAttention, width: int, dtype: torch.dtype) -> None:
        self._after, self._width, self._dtype, self.parameters = after, width, dtype, after.parameters

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        attended, own = x.tensor_split([self._width], dim=1)
        return self._after.forward(attended.to(self._dtype).contiguous(), own.contiguous())

    def backward(self, gradient: Tensor, saved: Any, *, wants_x: bool) -> tuple[Tensor | None, Gradients]:  # noqa: ANN401
        grad_attended, grad_own, grads = self._after.backward(gradient, saved)
        return torch.cat([grad_attended, grad_own], dim=1), grads


class _ExplicitKeys:
    def __init__(self, module: nn.Module, form: BlockForm, arithmetic: Arithmetic) -> None:
        self._form, self._norms = form, HeadNorms(module, form, arithmetic.dtype)
        self._layer = arithmetic.product(module, *(form.qkv[1:] or form.qkv))
        self._distances = arithmetic.product(module, *form.position_layers) if form.position_layers else None

    def __call__(self, query: Tensor | None, reading: _Reading) -> Tensor:
        form, (b, t, width) = self._form, reading.x.shape
        heads = run(self._layer, reading.x.reshape(b * t, width)).view(b, t, -1, form.head_size)
        if query is None:
            query, heads = reading.rows(heads[:, :, : form.n_heads]), heads[:, :, form.n_heads :]
        k, v = heads.chunk(2, dim=2)
        q, k = self._norms.differentiable(query.unsqueeze(1), k)
        if reading.rotary is not None:
            q, k = reading.rotary.at(reading.places).forward(q), reading.rotary.forward(k)
        q, k, v = (part.to(heads.dtype).transpose(1, 2) for part in (q, k, v))
        if reading.distances is None and reading.bias is None:
            return attend(q, k, v, reading.mask, scaling=form.scaling, dropout=reading.dropout).squeeze(2)
        scores = q @ k.transpose(2, 3)
        if reading.distances is not None:
            scores = scores + self._of_distances(q, k, reading.distances)
        scores = scores * form.scaling
        for added in (reading.bias, reading.mask):
            scores = scores if added is None else scores + added.to(scores.dtype)
        return (nn.functional.dropout(scores.softmax(-1), reading.dropout) @ v).squeeze(2)

    def _of_distances(self, q: Tensor, k: Tensor, distances: Distances) -> Tensor:
        """Return the scores' distance term ``(B, H, 1, T)`` for each text's single query, the first token."""
        assert self._distances is not None, "the form has layers for distances"
        t = k.shape[2]
        rows = distances.embeddings[distances.rows[:t].flip(0)].to(q.dtype)  # from 0 down to 1 - T
        of_query, of_key = run(self._distances, rows).view(t, 2, self._form.n_heads, -1).permute(1, 2, 0, 3).unbind(0)
        return (q * of_key + k * of_query).sum(-1).unsqueeze(2)


class _ImplicitKeys:
    def __init__(self, key: _HeadProjection, value: _HeadProjection, *, scaling: float) -> None:
        self._key, self._value, self._scaling = key, value, scaling

    def __call__(self, query: Tensor | None, reading: _Reading) -> Tensor:
        assert query is not None, "a separate layer computes the query"
        projected = self._key.transposed(query * self._scaling)
        scores = torch.bmm(projected, reading.x.transpose(1, 2))
        if reading.mask is not None:
            scores = scores + reading.mask[:, :, 0]
        p = nn.functional.dropout(scores.softmax(-1), reading.dropout)
        return self._value.forward(torch.bmm(p, reading.x), p.sum(-1, keepdim=True))


class _PerModelAttention:
    def __init__(self, attends: Sequence[_Attend], rows: ModelRows) -> None:
        self._attends, self._rows = attends, rows

    def __call__(self, query: Tensor | None, reading: _Reading) -> Tensor:
        slices, parts = self._rows.slices(len(reading.x)), []
        for attend_, rows in zip(self._attends, slices, strict=True):
            parts.append(attend_(None if query is None else query[rows], reading.of(rows)))
        return torch.cat(parts)


class _HeadProjection:
    """A linear layer split into heads, with weight ``(H, d, D)``."""

    def __init__(self, parts: Parts, n_heads: int, arithmetic: Arithmetic) -> None:
        self._parts, self._n_heads, self._dtype = parts, n_heads, arithmetic.dtype
        frozen = not parts.weight.requires_grad
        self._frozen = arithmetic.matrices.find([parts.weight], self._dtype, packed=False).weight if frozen else None

    def transposed(self, rows: Tensor) -> Tensor:
        """Compute ``W_h^T r_h`` for each head: ``(B, H, d)`` to ``(B, H, D)``."""
        rows = rows.transpose(0, 1)
        result = torch.bmm(rows, self._cut(self._weight()))
        if (update := self._parts.update) is not None:
            low = torch.bmm(rows, self._cut(update.b.to(self._dtype))) * update.scaling
            result = result + low @ update.a.to(self._dtype)
        return result.transpose(0, 1)

    def forward(self, rows: Tensor, weights: Tensor) -> Tensor:
        """Compute ``W_h c_h + w_h b_h`` for each head: ``(B, H, D)`` and ``(B, H, 1)`` to ``(B, H, d)``."""
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
        """View ``(H d, .)`` as ``(H, d, .)``."""
        return matrix.view(self._n_heads, -1, matrix.shape[-1])
