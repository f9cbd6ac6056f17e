"""One pass over texts of several models on one encoder: PEFT's own mixed batches stop at heads of more than one layer.

The embeddings and whatever else no method has changed run once. In the blocks a frozen weight multiplies the rows of
all models at once, and each model adds its own to its own rows (`feathertune.engine.kernels.multi_model_layers`). Then
each model's head reads its rows. Not for training, nor for encoders that run their own blocks, nor for methods that
change what goes into the first block (prompts): `Member.of` says why.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from feathertune.engine.fast_path import Installed, as_the_block_does
from feathertune.engine.kernels.block import Block
from feathertune.engine.kernels.last_layer import OneQuery
from feathertune.engine.kernels.multi_model_layers import Shares
from feathertune.engine.replace import replaced
from feathertune.engine.training.head import head_logits

if TYPE_CHECKING:
    from feathertune.encoders import LoadedEncoder
    from feathertune.runtime import Runtime

# Largest difference of a logit between a mixed pass and a model alone, as a share of the largest logit. Sums are made
# in another order; a pass that mixed up rows or weights is off by tenths.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}


@dataclass(frozen=True, eq=False)
class Member:
    """A model that can be in a mixed pass.

    Attributes:
        encoder: Its encoder, with the fast parts in.
        model: The whole.
        blocks: Its blocks, as the engine runs them.
        kin: Equal for those that can be in one pass.
    """

    encoder: LoadedEncoder
    model: nn.Module
    blocks: tuple[Block | OneQuery, ...]
    kin: Hashable

    @classmethod
    def of(cls, encoder: LoadedEncoder, model: nn.Module, installed: Installed) -> Member | str:
        """Look whether a model can be in a mixed pass.

        Args:
            encoder: As a method has prepared it; its tensors are shared (`SharedTensors`).
            model: The whole, in eval mode.
            installed: What `fast_parts` put in.

        Returns:
            The member, or in words why it is none.
        """
        if len(installed.blocks) != len(encoder.blocks):
            return f"{encoder.spec.model_type} encoders run their own blocks here"
        if not isinstance(installed.blocks[-1], OneQuery):
            return "the last block is not computed for the first token alone"
        inner = {id(parameter) for parameter in encoder.model.parameters()}
        if any(id(parameter) not in inner for parameter in model.parameters()):
            return "the method has parameters outside of the encoder"
        inside = (f"{encoder.spec.blocks}.", *(f"{name}." for name in encoder.head_modules))
        outside = [(n, id(p)) for n, p in encoder.model.named_parameters() if not n.startswith(inside)]
        kin = (encoder.fingerprint, type(encoder.model), tuple(outside))
        return cls(encoder, model, tuple(installed.blocks), kin)


def mixed_logits(members: Sequence[Member], batch: dict[str, Tensor], sizes: Sequence[int]) -> list[Tensor]:
    """Run several models at once; inside of `torch.inference_mode` and the number format.

    Args:
        members: Models of one kin, each once.
        batch: Their texts, ``(B, T)``: all of the first model, then all of the second, and so on.
        sizes: How many are whose.

    Returns:
        For each model the logits of its texts, ``(B_i, C_i)``.
    """
    if len(members) == 1:
        return [members[0].model(**batch).logits]
    leader, shares = members[0], Shares.of(tuple(sizes), batch)
    with contextlib.ExitStack() as stack:
        for index, module in enumerate(leader.encoder.blocks):
            block = _together([member.blocks[index] for member in members], shares)
            stack.enter_context(replaced(module, as_the_block_does(module, block)))
        output = leader.encoder.backbone(**batch)
    pooled = getattr(output, "pooler_output", None)
    # A pooler that the checkpoint does not hold is each model's own, and part of its head.
    read = output.last_hidden_state[:, 0] if pooled is None or leader.encoder.new_pooler is not None else pooled
    rows = shares.rows(shares.n_texts)
    return [head_logits(member.encoder, read[part]) for member, part in zip(members, rows, strict=True)]


def check_mixed(members: Sequence[Member], batch: dict[str, Tensor], runtime: Runtime) -> str:
    """Compare a mixed pass with each model alone.

    Args:
        members: Models of one kin, each once.
        batch: A few texts, each model's as many.
        runtime: The number format.

    Returns:
        What differs, in words; nothing where they agree.
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


def _together(blocks: Sequence[Block | OneQuery], shares: Shares) -> Block | OneQuery:
    queries = [block for block in blocks if isinstance(block, OneQuery)]
    if queries:
        return OneQuery.together(queries, shares)
    return Block.together([block for block in blocks if isinstance(block, Block)], shares)
