"""`feathertune.engine.kernels.attention` under a name in transformers' attention interface.

Families that use the interface (BERT, RoBERTa, ELECTRA, DistilBERT, ALBERT, ModernBERT and others) take it by
``config._attn_implementation = NAME``. Its mask is one row for each text. DeBERTa and MPNet compute attention
themselves.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import bidirectional_mask_function, sdpa_mask

from feathertune.engine.kernels.attention import MASKED, attend

NAME = "feathertune"


def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,  # noqa: ANN401
) -> tuple[Tensor, None]:
    """Attention in transformers' form: heads ``(B, H, T, d)`` to ``(B, T, H, d)``, without probabilities."""
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    mask = as_added(attention_mask, query.dtype)
    output = attend(query, key, value, mask, scaling=scaling, dropout=dropout)
    return output.transpose(1, 2).contiguous(), None


def as_added(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Return a mask, bool or additive, as an additive one of at least `MASKED`."""
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, MASKED)
    return mask.clamp_min(MASKED).to(dtype)


def padding_mask(attention_mask: Tensor | None = None, dtype: torch.dtype = torch.float32, **others: Any) -> Any:  # noqa: ANN401
    """Return transformers' mask: ``(B, 1, 1, T)`` if only padding is masked, else its own full mask."""
    if others.get("mask_function") is not bidirectional_mask_function or others.get("use_vmap"):
        return sdpa_mask(attention_mask=attention_mask, dtype=dtype, **others)
    if attention_mask is None:
        return None
    return as_added(attention_mask.bool()[:, None, None, :], dtype)


def register() -> None:
    """Register `NAME` with transformers; repeated calls change nothing."""
    AttentionInterface.register(NAME, attention_forward)
    AttentionMaskInterface.register(NAME, padding_mask)
