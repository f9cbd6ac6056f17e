"""Record what both sides compute: the passes they really run, and the loss of a few rows before the first step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from children import Problem, Rows
from torch import nn

from feathertune.data.tokens.encode import EncodedTexts, Padding
from feathertune.engine.kernels.tokens import filled_up, it_pays

# A learning rate that changes no weight: warm-up steps take the same time and leave the model unchanged.
NO_MOVE = 1e-12
CHECKED_ROWS = 16


class Passes:
    """Counter of a backbone's passes, by shape.

    Attributes:
        training: (B, T) of each training pass, and the number of rows its linear layers run over.
        other: Shapes of passes outside training, through a prefix with cached output.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self.training: list[tuple[int, int, int]] = []
        self.other: list[tuple[int, int, int]] = []
        self.skips_padding = False  # the engine's blocks skip padding if that is faster
        backbone.register_forward_pre_hook(self._count, with_kwargs=True)
        backbone.register_forward_hook(self._complete)

    @property
    def padded_tokens(self) -> int:
        """Return the padded tokens of all training passes."""
        return sum(b * t for b, t, _ in self.training)

    def _count(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        tokens = inputs[0] if inputs else named.get("input_ids")
        if tokens is not None:
            n = tokens.numel()
            if self.skips_padding and (mask := named.get("attention_mask")) is not None and it_pays(int(mask.sum()), n):
                n = filled_up(int(mask.sum()))
            (self.training if module.training else self.other).append((*tokens.shape, n))

    def _complete(self, module: nn.Module, *_: Any) -> None:
        if not module.training:  # it may have started at the split point, where a pass over the prefix ends
            self.other.pop()


def texts_of(rows: Rows, pad_id: int) -> EncodedTexts:
    """Return rows in feathertune's format."""
    return EncodedTexts(ids=rows.ids, offsets=rows.offsets, n_truncated=0, padding=Padding(pad_id))


def first_logits(model: nn.Module, problem: Problem, *, bf16: bool) -> torch.Tensor:
    """Return the first rows' logits, ``(16, C)`` in fp32, without dropout."""
    rows = problem.train.first(min(CHECKED_ROWS, len(problem.train)))
    device = next(model.parameters()).device
    batch = texts_of(rows, problem.pad_id).collate(np.arange(len(rows)), device)
    model.eval()
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
        logits: torch.Tensor = model(**batch).logits.float().cpu()
    return logits


def first_loss(model: nn.Module, problem: Problem, *, bf16: bool) -> float:
    """Return the first rows' mean loss."""
    logits = first_logits(model, problem, bf16=bf16)
    labels = torch.from_numpy(problem.train.labels[: len(logits)])
    return float(nn.functional.cross_entropy(logits, labels))
