"""Self-attention over one tensor of queries, keys and values; heads may be grouped, rotated and normalised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from feathertune.engine.kernels import attention
from feathertune.engine.kernels.layer import Gradients, run
from feathertune.engine.kernels.norm import Norm, norm_layer

if TYPE_CHECKING:
    from feathertune.encoders.block_form import BlockForm


class Rotary:
    """Rotary position embedding, ``x cos + half(x) sin`` with ``half((a, b)) = (-b, a)``.

    Heads may be wider than the rotated part. Source: Su et al. 2021, arXiv:2104.09864, section 3.4.2.
    """

    def __init__(self, cos: Tensor, sin: Tensor) -> None:
        """Take tables ``(1 or B, T, d)``."""
        self._cos, self._sin = cos.unsqueeze(2), sin.unsqueeze(2)

    def forward(self, x: Tensor) -> Tensor:
        """Rotate ``(B, T, H, d)``; the result has the wider dtype of `x` and the tables."""
        return self._turn(x, self._sin, 1)

    def backward(self, gradient: Tensor) -> Tensor:
        """Return the input's gradient."""
        half = self._sin.shape[-1] // 2
        swapped = torch.cat([self._sin[..., half:], self._sin[..., :half]], dim=-1)
        return self._turn(gradient, swapped, -1)

    def _turn(self, x: Tensor, sin: Tensor, sign: int) -> Tensor:
        width, half = sin.shape[-1], sin.shape[-1] // 2
        turned = x[..., :width] * self._cos
        turned[..., :half].addcmul_(x[..., half:width], sin[..., :half], value=-sign)
        turned[..., half:].addcmul_(x[..., :half], sin[..., half:], value=sign)
        return turned if width == x.shape[-1] else torch.cat([turned, x[..., width:].to(turned.dtype)], dim=-1)

    def at(self, places: Tensor) -> Rotary:
        """Return the rotation of one position per text; `places` is ``(B,)``."""
        texts = torch.arange(len(places), device=places.device)
        cos, sin = (table.expand(len(places), -1, -1, -1)[texts, places] for table in (self._cos, self._sin))
        return Rotary(cos, sin)

    def of(self, texts: slice) -> Rotary:
        """Return the rotation for some texts of a batch."""
        tables = (table.squeeze(2) for table in (self._cos, self._sin))
        return Rotary(*(table if len(table) == 1 else table[texts] for table in tables))


class HeadNorms:
    """Norms of queries and keys, per head or over all heads."""

    def __init__(self, block: nn.Module, form: BlockForm, dtype: torch.dtype) -> None:
        names = (form.query_norm, form.key_norm)
        self._norms = [None if name is None else norm_layer(block.get_submodule(name), dtype) for name in names]
        self.parameters = tuple(p for norm in self._norms if norm is not None for p in norm.parameters)
        self.is_empty = self._norms == [None, None]

    def require_same(self, others: Sequence[HeadNorms]) -> None:
        """Raise ValueError unless all norms share the same parameter objects."""
        pairs = [pair for other in others for pair in zip(self._norms, other._norms, strict=True)]
        if not all(a is b if a is None or b is None else a.is_the_same_as(b) for a, b in pairs):
            raise ValueError("the norms of the heads differ")

    def forward(self, parts: list[Tensor]) -> tuple[list[Tensor], list[Any]]:
        """Normalise queries and keys, each ``(B, T, H, d)``."""
        made = [(x, None) if norm is None else _forward(norm, x) for norm, x in zip(self._norms, parts, strict=True)]
        return [output for output, _ in made], [saved for _, saved in made]

    def differentiable(self, *parts: Tensor) -> list[Tensor]:
        """Normalise queries and keys, each ``(B, T, H, d)``, within the autograd graph."""
        pairs = zip(self._norms, parts, strict=True)
        return [x if norm is None else run(norm, x.reshape(-1, _width(norm, x))).view(x.shape) for norm, x in pairs]

    def backward(self, gradients: list[Tensor], saved: list[Any]) -> tuple[list[Tensor], Gradients]:
        """Return the gradients of the queries, the keys and the parameters."""
        found, grads = [], Gradients()
        for norm, gradient, of_norm in zip(self._norms, gradients, saved, strict=True):
            if norm is None:
                found.append(gradient)
                continue
            rows = gradient.reshape(-1, _width(norm, gradient))
            grad, of_parameters = norm.backward(rows, of_norm, wants_x=True)
            assert grad is not None, "wants_x is True"
            found.append(grad.view(gradient.shape))
            grads += of_parameters
        return found, grads


def _forward(norm: Norm, x: Tensor) -> tuple[Tensor, Any]:
    output, saved = norm.forward(x.reshape(-1, _width(norm, x)))
    return output.view(x.shape), saved


def _width(norm: Norm, x: Tensor) -> int:
    """Return the width that a norm covers: one head or all heads."""
    weight = next(norm.module.parameters(), None)
    return x.shape[-1] if weight is None else int(weight.shape[-1])


class SelfAttention:
    """Heads over joined queries, keys and values ``(B T, (H + 2 K) d)``, whose gradient is one tensor too.

    Each of the K key-value heads serves G query heads, which are folded into one head with G T queries.
    """

    def __init__(
        self,
        form: BlockForm,
        norms: HeadNorms,
        mask: Tensor | None,
        rotary: Rotary | None,
        dropout: float,
        *,
        bias: Tensor | None = None,
    ) -> None:
        """Take the parts of attention; `bias` ``(B, H, T, T)`` is added to the scores and gets a gradient."""
        self._bias = bias
        self._form, self._norms, self._mask, self._rotary, self._dropout = form, norms, mask, rotary, dropout
        self._queries, self._keys = form.n_heads, form.n_heads + form.n_kv_heads  # end indices among the heads
        self.parameters = norms.parameters if bias is None else (*norms.parameters, bias)

    def forward(self, joined: Tensor, b: int) -> tuple[Tensor, Any]:
        """Return ``(B T, H d)`` for a batch of `b` texts, and what `backward` needs."""
        form, of_norms = self._form, None
        x = joined.view(b, len(joined) // b, -1, form.head_size)
        turned = x[:, :, : self._keys]
        if not self._norms.is_empty:
            parts, of_norms = self._norms.forward([x[:, :, : self._queries], x[:, :, self._queries : self._keys]])
            turned = torch.cat(parts, dim=2)
        if self._rotary is not None:
            turned = self._rotary.forward(turned)
        q, k = (grouped(part, form.n_kv_heads, x.dtype) for part in turned.tensor_split([self._queries], dim=2))
        v = x[:, :, self._keys :].transpose(1, 2)
        output, saved = attention.forward(q, k, v, self._added(x.dtype), scaling=form.scaling, dropout=self._dropout)
        return ungrouped(output, form.n_heads).reshape(len(joined), -1), (saved, of_norms)

    def backward(self, gradient: Tensor, saved: Any, b: int) -> tuple[Tensor, Gradients]:  # noqa: ANN401
        """Return the gradients of the joined tensor and the norms."""
        (of_attention, of_norms), form, grads = saved, self._form, Gradients()
        heads = grouped(gradient.view(b, -1, form.n_heads, form.head_size), form.n_kv_heads, gradient.dtype)
        grad_q, grad_k, grad_v, grad_scores = attention.backward(
            heads, of_attention, scaling=form.scaling, dropout=self._dropout
        )
        joined = gradient.new_empty(b, len(gradient) // b, self._keys + form.n_kv_heads, form.head_size)
        q, k, v = joined.tensor_split([self._queries, self._keys], dim=2)
        places = by_group(q, form.n_kv_heads)
        torch.mul(grad_q.reshape(places.shape), form.scaling, out=places)
        torch.mul(grad_k, form.scaling, out=k.transpose(1, 2))
        v.transpose(1, 2).copy_(grad_v)
        turned = joined[:, :, : self._keys]
        if self._rotary is not None:
            turned.copy_(self._rotary.backward(turned))
        if of_norms is not None:
            found, grads = self._norms.backward([q, k], of_norms)
            torch.cat(found, dim=2, out=turned)
        if self._bias is not None:
            grads = [*grads, grad_scores.to(self._bias.dtype) if self._bias.requires_grad else None]
        return joined.view(len(gradient), -1), grads

    def _added(self, dtype: torch.dtype) -> Tensor | None:
        """Return the sum of mask and bias, which is added to the scores."""
        if self._bias is None:
            return self._mask
        return self._bias.to(dtype) if self._mask is None else self._bias.to(dtype) + self._mask


def by_group(x: Tensor, n_groups: int) -> Tensor:
    """View ``(B, T, H, d)`` as ``(B, K, G, T, d)``."""
    b, t, h, d = x.shape
    return x.view(b, t, n_groups, h // n_groups, d).permute(0, 2, 3, 1, 4)


def grouped(x: Tensor, n_groups: int, dtype: torch.dtype) -> Tensor:
    """Return ``(B, T, H, d)`` as ``(B, K, G T, d)`` in the given dtype."""
    heads = by_group(x, n_groups)
    if heads.shape[2] == 1 and x.dtype == dtype:
        return heads.squeeze(2)
    return torch.empty(heads.shape, dtype=dtype, device=x.device).copy_(heads).flatten(2, 3)


def ungrouped(x: Tensor, n_heads: int) -> Tensor:
    """View ``(B, K, G T, d)`` as ``(B, T, K, G, d)``."""
    b, n_groups, _, d = x.shape
    return x.view(b, n_groups, n_heads // n_groups, -1, d).permute(0, 3, 1, 2, 4)
