"""Attention as plain matrix products with a hand-written gradient, for CPUs, where torch's fused kernel is slow.

* The mask is an extra feature: 1 in every query, the mask value in every key. Adding it to the scores would need
  another pass over memory.
* Keys are padded to a multiple of 32, because torch's bf16 softmax is up to four times slower at other lengths. With
  few keys, a softmax in fp32 is cheaper than padding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import bidirectional_mask_function, sdpa_mask

from feathertune.encoders.block_form import NO_EFFECT

# Name in transformers' attention interface (``config._attn_implementation``), which DeBERTa and MPNet do not use.
NAME = "feathertune"
# Low enough that its exponential is zero compared with any score; bf16 can hold it after division by the scaling.
MASKED = -1e4
_MULTIPLE = 32
_SHORT = 64
# The size of the probabilities grows with the square of the length. For longer texts they are recomputed, which takes a
# twentieth of the step.
_KEEP_UP_TO = 256


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, scaling: float, dropout: float = 0.0) -> Tensor:
    """Return attention of heads ``(B, H, Q, d)`` over keys and values ``(B, K, T, d)``; GPUs use the fused kernel.

    K divides H. `mask` ``(B, 1, 1, T)`` or ``(B, H, Q, T)`` is added to the scores; its values are 0 or at most
    `MASKED`. It gets no gradient.
    """
    groups = q.shape[1] // k.shape[1]
    if q.device.type != "cpu":
        return nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout, scale=scaling, enable_gqa=groups > 1
        )
    b, h, n, d = q.shape
    queries = q.reshape(b, h // groups, groups * n, d)  # fold the heads that share keys into one head
    output: Tensor = _Attend.apply(queries, k, v, mask, scaling, dropout)  # type: ignore[no-untyped-call]
    return output.view(b, h, n, d)


def keep_mask(shape: tuple[int, ...], p: float, device: torch.device) -> Tensor:
    """Return a bool mask, True with probability ``1 - p`` to within 2^-16, several times faster than torch's."""
    if device.type != "cpu" or p >= 1:
        return torch.rand(shape, device=device) >= p
    n = math.prod(shape)
    words = torch.empty(-(-n // 4), dtype=torch.int64).random_(-(2**63), None)
    return (words.view(torch.int16)[:n] >= round(p * 2**16) - 2**15).view(shape)


@dataclass(frozen=True)
class Saved:
    """Tensors that the gradient needs; `p` is ``None`` for long texts, whose probabilities are recomputed."""

    q: Tensor
    k: Tensor
    v: Tensor
    added: Tensor | None
    p: Tensor | None
    keep: Tensor | None
    n_keys: int


def forward(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, scaling: float, dropout: float
) -> tuple[Tensor, Saved]:
    """Return `attend`'s output ``(B, H, Q, d)`` without a graph, and the tensors that `backward` needs."""
    b, h, n_queries, d = q.shape
    n_keys = k.shape[2]
    q, k, v, added = _prepare(q, k, v, mask, scaling)
    p = _probabilities(q, k, added, b, n_keys, scaling)
    keep = as_bits(keep_mask(tuple(p.shape), dropout, p.device), p.dtype) if dropout > 0 else None
    output = torch.bmm(p if keep is None else drop(p, keep), v).view(b, h, n_queries, d)
    if keep is not None:  # scale here, where the tensors are small
        output.mul_(1 / (1 - dropout))
    kept = n_keys <= _KEEP_UP_TO
    return output, Saved(q, k, v, None if kept else added, p if kept else None, keep, n_keys)


def backward(
    gradient: Tensor, saved: Saved, *, scaling: float, dropout: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of unscaled q and k, of v, each ``(B, H, ., d)``, and of the mask ``(B, H, Q, T)``."""
    b, h, n_queries, d = gradient.shape
    p, keep, n = saved.p, saved.keep, saved.n_keys
    if p is None:
        p = _probabilities(saved.q, saved.k, saved.added, b, n, scaling)
    g = gradient.reshape(b * h, n_queries, d).contiguous()
    if keep is not None:
        g = g * (1 / (1 - dropout))
    grad_v = torch.bmm((p if keep is None else drop(p, keep)).transpose(1, 2), g)
    grad_p = torch.bmm(g, saved.v.transpose(1, 2))
    if keep is not None:
        grad_p = drop(grad_p, keep)
    grad_s = _softmax_backward(grad_p, p)
    grad_q = torch.bmm(grad_s, saved.k)
    grad_k = torch.bmm(grad_s.transpose(1, 2), saved.q)
    return (
        grad_q.view(b, h, n_queries, -1)[..., :d],
        grad_k.view(b, h, -1, grad_k.shape[-1])[:, :, :n, :d],
        grad_v.view(b, h, -1, d)[:, :, :n],
        grad_s.view(b, h, n_queries, -1)[..., :n],
    )


def as_bits(keep: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a mask ready for `drop`: for bf16 on a CPU, 16 equal bits per element."""
    if dtype != torch.bfloat16 or keep.device.type != "cpu":
        return keep
    return torch.neg(keep.view(torch.int8)).to(torch.int16)


def drop(values: Tensor, keep: Tensor) -> Tensor:
    """Zero values by a mask from `as_bits`, without rescaling the rest; bf16 times bool is seven times slower."""
    if keep.dtype == torch.int16:
        return (values.view(torch.int16) & keep).view(values.dtype)
    return values * keep


def _probabilities(q: Tensor, k: Tensor, added: Tensor | None, b: int, n_keys: int, scaling: float) -> Tensor:
    scores = torch.baddbmm(q.new_empty(1, 1, 1), q, k.transpose(1, 2), beta=0, alpha=scaling)
    if added is not None:
        # Several heads may be folded into one; a mask with a row per query then applies to each of them.
        n_queries = scores.shape[1] if added.shape[2] == 1 else added.shape[2]
        scores.view(b, -1, n_queries, scores.shape[-1])[..., :n_keys] += added
    return _softmax(scores)


def _is_short(n_keys: int) -> bool:
    return n_keys % _MULTIPLE != 0 and n_keys < _SHORT


def _prepare(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return contiguous ``(B H, ., .)`` with padded keys and the mask as a feature, or a mask still to be added."""
    b, h, n_queries, d = q.shape
    n_keys = k.shape[2]
    filled = -(-n_keys // _MULTIPLE) * _MULTIPLE
    added = None
    if mask is not None and (_is_short(n_keys) or mask.shape[1] != 1 or mask.shape[2] != 1):
        mask, added = None, mask
    if mask is None and (filled == n_keys or _is_short(n_keys)):
        q, k, v = (tensor.reshape(b * h, -1, d).contiguous() for tensor in (q, k, v))
        return q, k, v, added
    queries = q.new_empty(b, h, n_queries, d + 1)
    queries[..., :d] = q
    queries[..., d] = 1
    keys, values = k.new_empty(b, h, filled, d + 1), v.new_empty(b, h, filled, d)
    keys[:, :, :n_keys, :d] = k
    keys[:, :, :n_keys, d] = 0 if mask is None else mask.clamp_min(MASKED)[:, :, 0] / scaling
    values[:, :, :n_keys] = v
    if filled > n_keys:
        keys[:, :, n_keys:, :d] = 0
        keys[:, :, n_keys:, d] = MASKED / scaling
        values[:, :, n_keys:] = 0
    return queries.view(b * h, n_queries, -1), keys.view(b * h, filled, -1), values.view(b * h, filled, d), added


def _softmax(scores: Tensor) -> Tensor:
    if scores.dtype == torch.bfloat16 and _is_short(scores.shape[-1]):
        return torch._softmax(scores.float(), -1, False).to(scores.dtype)
    return torch._softmax(scores, -1, False)


def _softmax_backward(gradient: Tensor, p: Tensor) -> Tensor:
    if p.dtype == torch.bfloat16 and _is_short(p.shape[-1]):
        return torch._softmax_backward_data(gradient.float(), p.float(), -1, torch.float32).to(p.dtype)
    return torch._softmax_backward_data(gradient, p, -1, p.dtype)


class _Attend(torch.autograd.Function):
    """Autograd function of `attend` on a CPU."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        scaling: float,
        dropout: float,
    ) -> Tensor:
        output, ctx.saved = forward(q, k, v, mask, scaling=scaling, dropout=dropout)
        ctx.scaling, ctx.dropout = scaling, dropout
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        if ctx.saved is None:
            raise RuntimeError("Attention's gradient can be computed only once: its saved tensors were freed.")
        saved, ctx.saved = ctx.saved, None
        grad_q, grad_k, grad_v, _ = backward(gradient, saved, scaling=ctx.scaling, dropout=ctx.dropout)
        return grad_q * ctx.scaling, grad_k * ctx.scaling, grad_v, None, None, None


def attention_forward(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **others: Any,  # noqa: ANN401
) -> tuple[Tensor, None]:
    """Run attention with transformers' signature: heads ``(B, H, T, d)`` to ``(B, T, H, d)``, without probabilities.

    Keys and values may have fewer heads.

    Raises:
        NotImplementedError: For a trained mask, or an argument that changes the result, such as a cap on the scores.
    """
    if attention_mask is not None and attention_mask.requires_grad:
        raise NotImplementedError("attention with a trained mask")
    if unknown := [name for name, given in others.items() if name not in NO_EFFECT and given not in (None, False)]:
        raise NotImplementedError(f"attention with {', '.join(unknown)}")
    # Under autocast, rotary positions leave queries and keys in fp32.
    query, key = query.to(value.dtype), key.to(value.dtype)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    mask = as_added(attention_mask, query.dtype)
    output = attend(query, key, value, mask, scaling=scaling, dropout=dropout)
    return output.transpose(1, 2).contiguous(), None


def as_added(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Return a bool or additive mask as an additive mask with values of at least `MASKED`."""
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, MASKED)
    return mask.clamp_min(MASKED).to(dtype)


def padding_mask(attention_mask: Tensor | None = None, dtype: torch.dtype = torch.float32, **others: Any) -> Any:  # noqa: ANN401
    """Return transformers' mask, reduced to ``(B, 1, 1, T)`` if only padding is masked."""
    if others.get("mask_function") is not bidirectional_mask_function or others.get("use_vmap"):
        # torch's kernels accept a causal flag instead of a mask; this one does not.
        return sdpa_mask(attention_mask=attention_mask, dtype=dtype, **{**others, "allow_is_causal_skip": False})
    if attention_mask is None:
        return None
    return as_added(attention_mask.bool()[:, None, None, :], dtype)


def register() -> None:
    """Register `NAME` with transformers; repeated calls change nothing."""
    AttentionInterface.register(NAME, attention_forward)
    AttentionMaskInterface.register(NAME, padding_mask)
