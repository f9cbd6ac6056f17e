"""Logits of many texts, in the order in which they came, however they are batched."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from feathertune.data.batching import cut_passes
from feathertune.data.encode import EncodedTexts
from feathertune.runtime import Runtime


def predict_logits(
    model: nn.Module,
    data: EncodedTexts,
    *,
    token_budget: int,
    runtime: Runtime,
    on_texts: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Run a classifier over texts, those of similar length together.

    Args:
        model: A sequence classifier; it is put into eval mode and left there.
        data: N texts.
        token_budget: Padded tokens of one forward pass.
        runtime: Device and number format.
        on_texts: Called after each pass with its number of texts.

    Returns:
        Logits ``(N, C)`` float32, row i for text i.
    """
    model.eval()
    order = np.argsort(data.lengths, kind="stable")
    logits: np.ndarray | None = None
    for rows in cut_passes(order, data.lengths, token_budget=token_budget):
        with torch.inference_mode(), runtime.autocast():
            output = model(**data.collate(rows, runtime.device)).logits
        if logits is None:
            logits = np.zeros((len(data), output.shape[1]), dtype=np.float32)
        logits[rows] = output.float().cpu().numpy()
        if on_texts is not None:
            on_texts(len(rows))
    if logits is None:
        raise ValueError("There is no text to predict.")
    return logits


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities ``(N, C)`` float64 of logits ``(N, C)``."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
