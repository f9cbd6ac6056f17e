"""The classification head alone: the vector that it reads for each text, and its logits for such vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from feathertune.encoders.patching import hooked, replaced

if TYPE_CHECKING:
    from feathertune.encoders.encoder import LoadedEncoder

# The head's vector: passed to it (pooled), or the state of a text's first or last token, or the mean of all states.
HeadReads = Literal["pooled", "first", "last", "mean"]
READS: tuple[HeadReads, ...] = ("first", "last", "mean")


class _Output(BaseModelOutputWithPooling):  # type: ignore[misc]  # transformers is untyped
    """A backbone's output; fields that a family adds are None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def states(encoder: LoadedEncoder, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Run a batch ``(B, T)``; return the head's input, ``(B, T, D)`` or ``(B, D)``, the last states and the logits."""
    read: list[Tensor] = []
    hidden: list[Tensor] = []
    # The first of the head's modules that runs reads the backbone's output.
    names = encoder.spec.head if encoder.new_pooler is None else (encoder.new_pooler, *encoder.spec.head)
    modules = [encoder.model.get_submodule(name) for name in names]
    hooks = [module.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0])) for module in modules]
    hooks.append(encoder.backbone.register_forward_hook(lambda _, __, output: hidden.append(output[0])))
    with hooked(*hooks):
        logits: Tensor = encoder.model(**batch).logits
    return read[0], hidden[0], logits


def vector(given: Tensor, attention_mask: Tensor | None, reads: HeadReads) -> Tensor:
    """Return the vectors ``(B, D)`` that the head reads from its input."""
    if given.dim() == 2:
        return given
    if reads == "first":
        return given[:, 0]
    if attention_mask is None:
        return given[:, -1] if reads == "last" else given.mean(dim=1)
    if reads == "mean":
        mask = attention_mask.unsqueeze(-1).to(given.dtype)
        return (given * mask).sum(dim=1) / mask.sum(dim=1)
    places = torch.arange(given.shape[1], device=given.device)
    return given[torch.arange(len(given), device=given.device), (attention_mask * places).argmax(dim=1)]


def head_logits(encoder: LoadedEncoder, read: Tensor) -> Tensor:
    """Return the head's logits ``(N, C)`` for vectors ``(N, D)`` that it reads, differentiable."""
    hidden = read.unsqueeze(1)  # a text of one token: its first, its last and the mean are all `read`
    config = encoder.model.config
    # Encoder-decoders read the state of the end token, which must be present.
    token = config.eos_token_id if config.is_encoder_decoder else 1
    mask = torch.ones(hidden.shape[:2], dtype=torch.long, device=read.device)

    def stub(*_args: Any, **_kwargs: Any) -> BaseModelOutputWithPooling:  # noqa: ANN401 - any model
        return _Output(last_hidden_state=hidden, pooler_output=_pool(encoder, hidden))

    with replaced(encoder.backbone, stub):
        logits: Tensor = encoder.model(input_ids=token * mask, attention_mask=mask).logits
    return logits


def _pool(encoder: LoadedEncoder, hidden: Tensor) -> Tensor:
    """Return the pooler's output, which the vectors already are unless the pooler belongs to the head."""
    if encoder.new_pooler is None:
        return hidden[:, 0]
    pooler = encoder.model.get_submodule(encoder.new_pooler)
    if isinstance(pooler, nn.Linear):  # ALBERT, whose activation is a module of the backbone
        activation = encoder.backbone.get_submodule("pooler_activation")
        return cast(Tensor, activation(pooler(hidden[:, 0])))
    return cast(Tensor, pooler(hidden))
