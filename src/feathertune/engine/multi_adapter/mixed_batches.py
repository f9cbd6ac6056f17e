"""Predict texts of several models on one encoder in a single pass. PEFT's mixed batches require single-layer heads."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from feathertune.encoders.classifier_head import head_logits
from feathertune.encoders.patching import replaced
from feathertune.engine.fast_path import FastParts
from feathertune.engine.kernels.block import Block, block_forward
from feathertune.engine.kernels.last_layer import OneTokenBlock
from feathertune.engine.kernels.multi_model_layers import ModelRows

if TYPE_CHECKING:
    from feathertune.encoders import LoadedEncoder
    from feathertune.runtime import Runtime

# Largest difference in a logit between a mixed pass and a model alone, relative to the largest logit. Sums run in a
# different order, so small differences are normal; mixed-up rows or weights change logits by tenths.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}


@dataclass(frozen=True, eq=False)
class MixableModel:
    """A model that can take part in a mixed pass; models with the same `group_key` can share one."""

    encoder: LoadedEncoder
    model: nn.Module
    blocks: tuple[Block | OneTokenBlock, ...]
    group_key: Hashable


def as_mixable(encoder: LoadedEncoder, model: nn.Module, fast: FastParts) -> MixableModel | str:
    """Prepare a model, in eval mode with shared tensors, for mixed passes, or return the reason why it cannot join."""
    if len(fast.blocks) != len(encoder.blocks):
        return f"{encoder.spec.model_type} models run transformers' blocks, not the engine's"
    if not isinstance(fast.blocks[-1], OneTokenBlock):
        return "its last block is not reduced to the token that the head reads"
    inner = {id(parameter) for parameter in encoder.model.parameters()}
    if any(id(parameter) not in inner for parameter in model.parameters()):
        return "its method has parameters outside the encoder"
    inside = (f"{encoder.spec.blocks}.", *(f"{name}." for name in encoder.head_modules))
    outside = [(n, id(p)) for n, p in encoder.model.named_parameters() if not n.startswith(inside)]
    group_key = (encoder.fingerprint, type(encoder.model), tuple(outside))
    return MixableModel(encoder, model, tuple(fast.blocks), group_key)


def mixed_logits(members: Sequence[MixableModel], batch: dict[str, Tensor], sizes: Sequence[int]) -> list[Tensor]:
    """Run several models with one `group_key` together; call it under `torch.inference_mode` and autocast.

    The batch ``(B, T)`` holds `sizes` texts: all texts of the first model, then the next. Each model gets
    ``(B_i, C_i)``.
    """
    if len(members) == 1:
        return [members[0].model(**batch).logits]
    first, rows = members[0], ModelRows.of_batch(tuple(sizes), batch)
    with contextlib.ExitStack() as stack:
        for index, module in enumerate(first.encoder.blocks):
            blocks = [member.blocks[index] for member in members]
            block = type(blocks[0]).combine(blocks, rows)  # type: ignore[arg-type]  # all are of one class
            stack.enter_context(replaced(module, block_forward(module, block, n_returned=block.form.n_returned)))
        output = first.encoder.backbone(**batch)
    pooled = getattr(output, "pooler_output", None)
    # A pooler that is missing from the checkpoint is new in each model, and part of its head.
    read = output.last_hidden_state[:, 0] if pooled is None or first.encoder.new_pooler is not None else pooled
    slices = rows.slices(rows.n_texts)
    return [head_logits(member.encoder, read[part]) for member, part in zip(members, slices, strict=True)]


def check_mixed(members: Sequence[MixableModel], batch: dict[str, Tensor], runtime: Runtime) -> str:
    """Compare a mixed pass, with as many texts for each model, with each model alone; return "" if they agree."""
    n_each = len(batch["input_ids"]) // len(members)
    sizes = (n_each,) * len(members)
    with torch.inference_mode(), runtime.autocast():
        try:
            mixed = mixed_logits(members, batch, sizes)
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
            return f"it cannot run in a batch with other models: {error}"
        for number, (member, logits) in enumerate(zip(members, mixed, strict=True)):
            rows = slice(number * n_each, (number + 1) * n_each)
            alone = member.model(**{name: tensor[rows] for name, tensor in batch.items()}).logits.float()
            difference = (logits.float() - alone).abs().max().item()
            if not difference <= TOLERANCE[runtime.product_dtype] * max(1.0, alone.abs().max().item()):
                return f"in a batch with other models its logits differ by up to {difference:.3g}"
    return ""
