"""Train the classification head alone, on precomputed vectors, for any model family. Not thread-safe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from feathertune.data.tokens.encode import EncodedTexts
from feathertune.encoders import LoadedEncoder
from feathertune.encoders.classifier_head import head_logits, states, vector
from feathertune.encoders.patching import hooked, kept_modes
from feathertune.tasks.losses import CROSS_ENTROPY, Objective

# Epochs for the head alone, limited to this many steps.
_HEAD_EPOCHS, _HEAD_STEPS, _HEAD_BATCH, _HEAD_RATE = 20, 2_000, 64, 1e-3


# Number of layers whose states are kept: all layers of a small encoder.
MOST_LAYERS = 6


class Features(NamedTuple):
    """Vectors of texts, in the encoder's dtype: the head's input and the mean of the last hidden states, ``(B, D)``.

    Both are the head's input if the encoder shortens its texts (Funnel). `layers` ``(B, K D)`` float32 holds the mean
    states after K evenly spaced blocks, including the last.
    """

    read: Tensor
    mean: Tensor
    layers: Tensor


def extract_features(encoder: LoadedEncoder, batch: Mapping[str, Tensor]) -> Features:
    """Run an encoder without an adapter over a batch ``(B, T)``, without dropout or gradients.

    `read` is the mean if the head does not read a single vector.
    """
    model, mask = encoder.model, batch.get("attention_mask")
    shape, means = batch["input_ids"].shape, []

    def mean_of(states: Tensor) -> Tensor:
        return vector(states.float(), mask if states.shape[:2] == shape else None, "mean")

    def note(_module: nn.Module, _inputs: object, output: Any) -> None:  # noqa: ANN401 - any block's output
        of_block = output if isinstance(output, Tensor) else output[0]
        means.append(mean_of(of_block if encoder.facts.batch_first else of_block.transpose(0, 1)))

    with torch.no_grad(), kept_modes(model), hooked(*(b.register_forward_hook(note) for b in encoder.blocks)):
        model.eval()
        given, hidden, _ = states(encoder, batch)
    read = vector(given, mask, encoder.facts.reads or "mean")
    means = means or [mean_of(hidden)]  # some families call the blocks' submodules directly, so no hook runs
    places = np.linspace(1, len(means), min(len(means), MOST_LAYERS)).round().astype(int) - 1
    layers = torch.cat([means[place] for place in places], dim=-1)
    return Features(read, mean_of(hidden).to(read.dtype) if hidden.shape[:2] == shape else read, layers)


def fit_head(
    encoder: LoadedEncoder,
    read: np.ndarray,
    labels: np.ndarray,
    *,
    seed: int,
    texts: EncodedTexts | None = None,
    objective: Objective = CROSS_ENTROPY,
) -> None:
    """Train the head alone on frozen `Features.read` ``(N, D)`` (LP-FT).

    A random head would send noise into the adapter. With `texts` read in windows, `read` has one row per window.
    Dropout draws from torch's global generator.
    Source: Kumar et al. 2022, arXiv:2202.10054, section 4; for LoRA Tomihari & Sato 2024, arXiv:2405.16747.
    """

    def logits(rows: Tensor) -> Tensor:
        if texts is None:
            return head_logits(encoder, features[rows]).float()
        # Pooling the features instead would be equivalent only for linear heads.
        these = rows.cpu().numpy()
        found = torch.from_numpy(texts.sequences(these)).to(device)
        return texts.pool(these, head_logits(encoder, features[found]).float())

    device = next(encoder.model.parameters()).device
    features, classes = torch.from_numpy(read).to(device), torch.from_numpy(labels).to(device)
    heads = tuple(f"{name}." for name in encoder.head_modules)
    parameters = [p for n, p in encoder.model.named_parameters() if n.startswith(heads) and p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=_HEAD_RATE)
    generator = torch.Generator().manual_seed(seed)
    with kept_modes(encoder.model):
        encoder.model.train()
        for _ in range(_head_epochs(len(classes))):
            order = torch.randperm(len(classes), generator=generator)
            for rows in torch.split(order.to(device), _HEAD_BATCH):
                optimizer.zero_grad(set_to_none=True)
                loss = objective.loss(logits(rows), classes[rows]) / len(rows)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def n_head_steps(n_rows: int) -> int:
    """Return the number of steps `fit_head` takes."""
    return _head_epochs(n_rows) * -(-n_rows // _HEAD_BATCH)


def _head_epochs(n_rows: int) -> int:
    return max(1, min(_HEAD_EPOCHS, _HEAD_STEPS // -(-n_rows // _HEAD_BATCH)))
