"""One pass over texts of several models on one encoder: PEFT's own mixed batches stop at heads of more than one layer.

Embeddings, and all else that no method has changed, run once. In the blocks a frozen weight multiplies the rows of all
models at once, and each model adds its own update to its rows (`feathertune.engine.kernels.multi_model_layers`). Then
each model's head reads its rows. Prediction only; `as_mixable` says which models can take part.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from feathertune.engine.fast_path import FastParts, block_forward
from feathertune.engine.kernels.block import Block
from feathertune.engine.kernels.last_layer import FirstTokenBlock
from feathertune.engine.kernels.multi_model_layers import ModelRows
from feathertune.engine.replace import replaced
from feathertune.engine.training.head import head_logits

if TYPE_CHECKING:
    from feathertune.encoders import LoadedEncoder
    from feathertune.runtime import Runtime

# Largest difference of a logit between a mixed pass and a model alone, as a share of the largest logit. Sums are made
# in another order; a pass that mixed up rows or weights is off by tenths.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}


@dataclass(frozen=True, eq=False)
class MixableModel:
    """A model that can be in a mixed pass.

    Attributes:
        encoder: Its encoder, with fast parts.
        model: The whole model.
        blocks: Its blocks, as the engine runs them.
        group_key: Equal for models that can share a pass.
    """

    encoder: LoadedEncoder
    model: nn.Module
    blocks: tuple[Block | FirstTokenBlock, ...]
    group_key: Hashable


def as_mixable(encoder: LoadedEncoder, model: nn.Module, fast: FastParts) -> MixableModel | str:
    """Return a model that can be in a mixed pass, or the reason why it cannot.

    Args:
        encoder: As a method has prepared it; its tensors are shared (`SharedTensors`).
        model: The whole model, in eval mode.
        fast: The fast parts that it runs with.
    """
    if len(fast.blocks) != len(encoder.blocks):
        return f"{encoder.spec.model_type} encoders run their own blocks here"
    if not isinstance(fast.blocks[-1], FirstTokenBlock):
        return "the last block is not computed for the first token alone"
    inner = {id(parameter) for parameter in encoder.model.parameters()}
    if any(id(parameter) not in inner for parameter in model.parameters()):
        return "the method has parameters outside of the encoder"
    inside = (f"{encoder.spec.blocks}.", *(f"{name}." for name in encoder.head_modules))
    outside = [(n, id(p)) for n, p in encoder.model.named_parameters() if not n.startswith(inside)]
    group_key = (encoder.fingerprint, type(encoder.model), tuple(outside))
    return MixableModel(encoder, model, tuple(fast.blocks), group_key)


def mixed_logits(members: Sequence[MixableModel], batch: dict[str, Tensor], sizes: Sequence[int]) -> list[Tensor]:
    """Run several models at once; inside of `torch.inference_mode` and the number format.

    Args:
        members: Different models of one `MixableModel.group_key`.
        batch: Their texts, ``(B, T)``: all of the first model, then all of the second, and so on.
        sizes: Number of texts of each model.

    Returns:
        For each model the logits of its texts, ``(B_i, C_i)``.
    """
    if len(members) == 1:
        return [members[0].model(**batch).logits]
    first, rows = members[0], ModelRows.of_batch(tuple(sizes), batch)
    with contextlib.ExitStack() as stack:
        for index, module in enumerate(first.encoder.blocks):
            block = _combined([member.blocks[index] for member in members], rows)
            stack.enter_context(replaced(module, block_forward(module, block)))
        output = first.encoder.backbone(**batch)
    pooled = getattr(output, "pooler_output", None)
    # A pooler that is not in the checkpoint is each model's own, and part of its head.
    read = output.last_hidden_state[:, 0] if pooled is None or first.encoder.new_pooler is not None else pooled
    slices = rows.slices(rows.n_texts)
    return [head_logits(member.encoder, read[part]) for member, part in zip(members, slices, strict=True)]


def check_mixed(members: Sequence[MixableModel], batch: dict[str, Tensor], runtime: Runtime) -> str:
    """Compare a mixed pass with each model alone.

    Args:
        members: Different models of one `MixableModel.group_key`.
        batch: A few texts, equally many of each model.
        runtime: The number format.

    Returns:
        The difference, as a sentence; empty if they agree.
    """
    n_each = len(batch["input_ids"]) // len(members)
    sizes = (n_each,) * len(members)
    with torch.inference_mode(), runtime.autocast():
        try:
            mixed = mixed_logits(members, batch, sizes)
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
            return f"it cannot run beside others: {error}"
        for number, (member, logits) in enumerate(zip(members, mixed, strict=True)):
            rows = slice(number * n_each, (number + 1) * n_each)
            alone = member.model(**{name: tensor[rows] for name, tensor in batch.items()}).logits.float()
            difference = (logits.float() - alone).abs().max().item()
            if not difference <= TOLERANCE[runtime.product_dtype] * max(1.0, alone.abs().max().item()):
                return f"beside others it gives other logits, by {difference:.3g}"
    return ""


def _combined(blocks: Sequence[Block | FirstTokenBlock], rows: ModelRows) -> Block | FirstTokenBlock:
    last = [block for block in blocks if isinstance(block, FirstTokenBlock)]
    if last:
        return FirstTokenBlock.combine(last, rows)
    return Block.combine([block for block in blocks if isinstance(block, Block)], rows)
