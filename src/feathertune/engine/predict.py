"""Compute logits for many texts, in input order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from feathertune.data.tokens.batching import cut_passes
from feathertune.data.tokens.encode import EncodedTexts
from feathertune.engine.training.distributed import ALONE, Group
from feathertune.runtime import Runtime


def predict_logits(
    model: nn.Module,
    data: EncodedTexts,
    *,
    token_budget: int,
    runtime: Runtime,
    on_texts: Callable[[int], None] | None = None,
    group: Group = ALONE,
) -> np.ndarray:
    """Return logits ``(N, C)`` float32 for texts, using `run_passes`; the model stays in eval mode."""
    model.eval()

    def logits(batch: dict[str, Tensor]) -> tuple[Tensor]:
        return (model(**batch).logits,)

    return run_passes(logits, data, token_budget=token_budget, runtime=runtime, on_texts=on_texts, group=group)[0]


def run_passes(
    forward: Callable[[dict[str, Tensor]], tuple[Tensor, ...]],
    data: EncodedTexts,
    *,
    token_budget: int,
    runtime: Runtime,
    on_texts: Callable[[int], None] | None = None,
    group: Group = ALONE,
    pooled: bool = True,
) -> tuple[np.ndarray, ...]:
    """Run a function over texts without gradients, batched by length; raise ValueError if there are no texts.

    `forward` maps a batch to tensors with one row per sequence. Each becomes an array ``(N, ...)`` float32 with one row
    per text, or per sequence if not `pooled`; a text read in windows has several sequences. `on_texts` is called after
    each pass with its number of texts. Every process of the group gets all results.
    """
    if not len(data):
        raise ValueError("There are no texts to predict.")
    order = np.argsort(data.lengths, kind="stable")
    found: tuple[np.ndarray, ...] = ()
    for index, rows in enumerate(cut_passes(order, data.lengths, token_budget=token_budget)):
        # Every process runs the first pass to learn the shapes; only the leader's result is used.
        if index and index % group.size != group.rank:
            continue
        with torch.inference_mode(), runtime.autocast():
            tensors = [output.float() for output in forward(data.collate(rows, runtime.device))]
            outputs = [(data.pool(rows, output) if pooled else output).cpu().numpy() for output in tensors]
        if not found:
            n = len(data) if pooled else len(data.sequences(order))
            found = tuple(np.zeros((n, *output.shape[1:]), dtype=np.float32) for output in outputs)
        if index or group.leads:
            for whole, part in zip(found, outputs, strict=True):
                whole[rows if pooled else data.sequences(rows)] = part
        if on_texts is not None:
            on_texts(len(rows))
    return tuple(group.sum(whole) for whole in found)
