"""The classification head alone, and the vectors that it reads, computed once; for any family. Not thread-safe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from feathertune.data.tokens.encode import EncodedTexts
from feathertune.encoders import LoadedEncoder
from feathertune.engine.fast_path import kept_modes, replaced
from feathertune.tasks.losses import CROSS_ENTROPY, Objective

# Epochs of the head alone, and at most this many steps.
_HEAD_EPOCHS, _HEAD_STEPS, _HEAD_BATCH, _HEAD_RATE = 20, 2_000, 64, 1e-3


class Features(NamedTuple):
    """Vectors ``(B, D)`` of texts in the encoder's dtype: the head's input, and the mean of all last hidden states."""

    read: Tensor
    mean: Tensor


def extract_features(encoder: LoadedEncoder, batch: Mapping[str, Tensor]) -> Features:
    """Run an encoder without adapter over a batch ``(B, T)``, without dropout and gradients."""
    model = encoder.model
    read: list[Tensor] = []
    hidden: list[Tensor] = []

    # The first of the head's modules that runs reads the encoder's output.
    readers = encoder.spec.head if encoder.new_pooler is None else (encoder.new_pooler, *encoder.spec.head)
    modules = [model.get_submodule(name) for name in readers]
    hooks = [module.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0])) for module in modules]
    hooks.append(encoder.backbone.register_forward_hook(lambda _, __, output: hidden.append(output[0])))
    try:
        with torch.no_grad(), kept_modes(model):
            model.eval()
            model(**batch)
    finally:
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
    """Return the head's logits ``(N, C)`` for `Features.read` ``(N, D)``, differentiable, as the whole model's."""
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
    """Train the head alone on frozen `Features.read` ``(N, D)``: a random head sends noise into the adapter (LP-FT).

    With `texts`, which have windows, rows are those of windows. Dropout draws from torch's global generator.
    Source: Kumar et al. 2022, arXiv:2202.10054, section 4; for LoRA Tomihari & Sato 2024, arXiv:2405.16747.
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
    """Return the number of steps that `fit_head` takes."""
    return _head_epochs(n_rows) * -(-n_rows // _HEAD_BATCH)


def _head_epochs(n_rows: int) -> int:
    return max(1, min(_HEAD_EPOCHS, _HEAD_STEPS // -(-n_rows // _HEAD_BATCH)))


def _pool(encoder: LoadedEncoder, hidden: Tensor) -> Tensor:
    """Return the pooler's output: the features are that already, unless the pooler belongs to the head."""
    if encoder.new_pooler is None:
        return hidden[:, 0]
    pooler = encoder.model.get_submodule(encoder.new_pooler)
    if isinstance(pooler, nn.Linear):  # ALBERT, whose activation is a module of the backbone
        activation = encoder.backbone.get_submodule("pooler_activation")
        return cast(Tensor, activation(pooler(hidden[:, 0])))
    return cast(Tensor, pooler(hidden))
