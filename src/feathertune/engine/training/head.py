"""The classification head alone, and the vectors that it reads.

The encoder runs once over all texts; then the head is trained on stored vectors. No family's head is known here: the
model's own forward runs, once observed and once with the backbone's forward replaced. Not thread-safe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from feathertune.data.tokens.encode import EncodedTexts
from feathertune.encoders import LoadedEncoder
from feathertune.engine.replace import replaced
from feathertune.tasks.losses import CROSS_ENTROPY, Objective

# Epochs of the head alone, and at most this many steps.
_HEAD_EPOCHS, _HEAD_STEPS, _HEAD_BATCH, _HEAD_RATE = 20, 2_000, 64, 1e-3


@dataclass(frozen=True)
class Features:
    """Two vectors per text, in the encoder's dtype.

    Attributes:
        read: The head's input, ``(B, D)``: the output of a pretrained pooler (BERT, ALBERT), the mean over tokens (some
            ModernBERT), or the first token's last hidden state.
        mean: Mean of the last hidden states over the text's tokens, special tokens included, ``(B, D)``.
    """

    read: Tensor
    mean: Tensor


def extract_features(encoder: LoadedEncoder, batch: Mapping[str, Tensor]) -> Features:
    """Run the encoder once, without dropout and gradients.

    Args:
        encoder: As it was loaded, without an adapter.
        batch: The tokenizer's output, each ``(B, T)``; without ``attention_mask`` all tokens count.
    """
    model = encoder.model
    read: list[Tensor] = []
    hidden: list[Tensor] = []

    def keep_read(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        read.append(inputs[0])

    def keep_hidden(_module: nn.Module, _inputs: Any, output: Any) -> None:  # noqa: ANN401 - a hook
        hidden.append(output[0])

    hooks = [model.get_submodule(name).register_forward_pre_hook(keep_read) for name in _readers(encoder)]
    hooks.append(encoder.backbone.register_forward_hook(keep_hidden))
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            model.eval()
            model(**batch)
    finally:
        for module, mode in modes.items():
            module.training = mode
        for hook in hooks:
            hook.remove()
    first = read[0][:, 0] if read[0].dim() == 3 else read[0]
    last = hidden[0].float()
    if "attention_mask" in batch:
        mask = batch["attention_mask"].unsqueeze(-1).to(torch.float32)
        mean = (last * mask).sum(dim=1) / mask.sum(dim=1)
    else:
        mean = last.mean(dim=1)
    return Features(read=first, mean=mean.to(first.dtype))


def head_logits(encoder: LoadedEncoder, read: Tensor) -> Tensor:
    """Return the head's logits ``(N, C)`` for `Features.read` ``(N, D)``; equal to the whole model's.

    Differentiable with respect to the head's parameters. Dropout follows the model's training mode.
    """
    hidden = read.unsqueeze(1)  # a text of one token: its first token and its mean are both `read`
    ones = torch.ones(hidden.shape[:2], dtype=torch.long, device=read.device)

    def stub(*_args: Any, **_kwargs: Any) -> BaseModelOutputWithPooling:  # noqa: ANN401 - any model
        return BaseModelOutputWithPooling(last_hidden_state=hidden, pooler_output=_pool(encoder, hidden))

    with replaced(encoder.backbone, stub):
        logits: Tensor = encoder.model(input_ids=ones, attention_mask=ones).logits
    return logits


def fit_head(
    encoder: LoadedEncoder,
    read: np.ndarray,
    labels: np.ndarray,
    *,
    seed: int,
    texts: EncodedTexts | None = None,
    objective: Objective = CROSS_ENTROPY,
) -> None:
    """Train the head alone on frozen features, before anything else is trained (LP-FT).

    A randomly drawn head sends noise into the adapter in its first steps. Source: Kumar et al. 2022, arXiv:2202.10054,
    section 4; for language models and LoRA Tomihari & Sato 2024, arXiv:2405.16747. Three seeds with and without:
    benchmarks/LOG.md.

    Args:
        encoder: As a method has prepared it, with an adapter that changes nothing yet.
        read: `Features.read` of the training rows, ``(N, D)`` float32; of each window if texts have several.
        labels: As in `Labelled`.
        seed: Sets the order of the rows; the head's dropout draws from torch's global generator.
        texts: The texts, if they have windows.
        objective: The loss of the training that follows.
    """

    def logits(rows: Tensor) -> Tensor:
        if texts is None:
            return head_logits(encoder, features[rows]).float()
        # Pooling the features instead would be the same for linear heads only.
        these = rows.cpu().numpy()
        found = torch.from_numpy(texts.sequences(these)).to(device)
        return texts.pool(these, head_logits(encoder, features[found]).float())

    device = next(encoder.model.parameters()).device
    features, classes = torch.from_numpy(read).to(device), torch.from_numpy(labels).to(device)
    heads = tuple(f"{name}." for name in encoder.head_modules)
    parameters = [p for n, p in encoder.model.named_parameters() if n.startswith(heads) and p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=_HEAD_RATE)
    generator = torch.Generator().manual_seed(seed)
    modes = {module: module.training for module in encoder.model.modules()}
    encoder.model.train()
    for _ in range(_head_epochs(len(classes))):
        order = torch.randperm(len(classes), generator=generator)
        for rows in torch.split(order.to(device), _HEAD_BATCH):
            optimizer.zero_grad(set_to_none=True)
            loss = objective.loss(logits(rows), classes[rows]) / len(rows)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for module, mode in modes.items():
        module.training = mode


def n_head_steps(n_rows: int) -> int:
    """Return the number of steps that `fit_head` takes."""
    return _head_epochs(n_rows) * -(-n_rows // _HEAD_BATCH)


def _head_epochs(n_rows: int) -> int:
    return max(1, min(_HEAD_EPOCHS, _HEAD_STEPS // -(-n_rows // _HEAD_BATCH)))


def _readers(encoder: LoadedEncoder) -> tuple[str, ...]:
    """Return modules of the head; the first that runs reads the encoder's output."""
    return encoder.spec.head if encoder.new_pooler is None else (encoder.new_pooler, *encoder.spec.head)


def _pool(encoder: LoadedEncoder, hidden: Tensor) -> Tensor:
    """Return the pooler's output: the features are that already, unless the pooler belongs to the head."""
    if encoder.new_pooler is None:
        return hidden[:, 0]
    pooler = encoder.model.get_submodule(encoder.new_pooler)
    if isinstance(pooler, nn.Linear):  # ALBERT, whose activation is a module of the backbone
        activation = encoder.backbone.get_submodule("pooler_activation")
        return cast(Tensor, activation(pooler(hidden[:, 0])))
    return cast(Tensor, pooler(hidden))
