"""What both sides are asked: the passes that they really made, and the loss of a few rows before the first step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from children import Problem, Rows
from torch import nn

from feathertune.data.tokens.encode import EncodedTexts, Padding
from feathertune.engine.kernels.tokens import filled_up, it_pays

# A learning rate that moves no weight: a warm-up by it takes the same time and leaves the model as it was.
NO_MOVE = 1e-12
CHECKED_ROWS = 16


class Passes:
    """Counts the passes of a backbone by their shapes.

    Attributes:
        training: (B, T) of each pass of a training step, and the rows that its linear layers run over.
        other: Of each pass of tokens outside of training: a prefix whose output is kept.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self.training: list[tuple[int, int, int]] = []
        self.other: list[tuple[int, int, int]] = []
        self.skips_padding = False  # the engine's blocks do, where it pays
        backbone.register_forward_pre_hook(self._count, with_kwargs=True)
        backbone.register_forward_hook(self._complete)

    @property
    def padded_tokens(self) -> int:
        """Of all training passes."""
        return sum(b * t for b, t, _ in self.training)

    def _count(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        tokens = inputs[0] if inputs else named.get("input_ids")
        if tokens is not None:
            n = tokens.numel()
            if self.skips_padding and (mask := named.get("attention_mask")) is not None and it_pays(int(mask.sum()), n):
                n = filled_up(int(mask.sum()))
            (self.training if module.training else self.other).append((*tokens.shape, n))

    def _complete(self, module: nn.Module, *_: Any) -> None:
        if not module.training:  # it may have started at the split point; a pass over the prefix ends there
            self.other.pop()


def texts_of(rows: Rows, pad_id: int) -> EncodedTexts:
    """As feathertune takes them."""
    return EncodedTexts(ids=rows.ids, offsets=rows.offsets, n_truncated=0, padding=Padding(pad_id))


def first_logits(model: nn.Module, problem: Problem, *, bf16: bool) -> torch.Tensor:
    """Logits of the first rows, ``(16, C)`` in fp32, without dropout."""
    rows = problem.train.first(min(CHECKED_ROWS, len(problem.train)))
    device = next(model.parameters()).device
    batch = texts_of(rows, problem.pad_id).collate(np.arange(len(rows)), device)
    model.eval()
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
        logits: torch.Tensor = model(**batch).logits.float().cpu()
    return logits


def first_loss(model: nn.Module, problem: Problem, *, bf16: bool) -> float:
    """Mean loss of the first rows."""
    logits = first_logits(model, problem, bf16=bf16)
    labels = torch.from_numpy(problem.train.labels[: len(logits)])
    return float(nn.functional.cross_entropy(logits, labels))
