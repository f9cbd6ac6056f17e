"""The split point of a partly frozen encoder: the first trained block, where a pass can stop and restart."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from feathertune.encoders.patching import hooked, kept_modes, replaced

if TYPE_CHECKING:
    from feathertune.encoders import LoadedEncoder
    from feathertune.runtime import Runtime

# Largest difference in a logit between the whole model and one that starts at the split point. The arithmetic is the
# same, except that states are rounded to the dtype of products at the boundary.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
# The model's argument for hidden states ``(B, T, D)`` at the split point.
STATES = "split_states"
_HIDDEN = "hidden_states"  # transformers' name of a block's input


def find_split_point(encoder: LoadedEncoder, model: nn.Module) -> tuple[int, str]:
    """Return the index of the first trained block (the number of blocks if none), and the reason if it is 0."""
    if encoder.spec.shared_blocks:
        return 0, f"all blocks of a {encoder.spec.model_type} model share one set of weights"
    inner = dict(encoder.model.named_parameters())
    blocks, heads = f"{encoder.spec.blocks}.", tuple(f"{name}." for name in encoder.head_modules)
    known = {id(parameter) for parameter in inner.values()}
    if any(parameter.requires_grad and id(parameter) not in known for parameter in model.parameters()):
        return 0, "the method trains the encoder's inputs"
    first = len(encoder.blocks)
    for name, parameter in inner.items():
        if not parameter.requires_grad or name.startswith(heads):
            continue
        if not name.startswith(blocks):
            return 0, f"the method trains {name}, which is outside the blocks"
        first = min(first, int(name[len(blocks) :].partition(".")[0]))
    return first, "" if first else "the first block is trained"


class _Stop(Exception):
    """Raised at the boundary."""


class Prefix:
    """The blocks before a split point, which is the index of the first block after the prefix; D is `width`."""

    def __init__(self, encoder: LoadedEncoder, split_point: int, runtime: Runtime) -> None:
        self._encoder, self._split_point, self._runtime = encoder, split_point, runtime
        self._dtype = runtime.product_dtype
        self.width = encoder.hidden_size
        self._states: Tensor | None = None
        self._n_returned: int | None = None  # length of the tuple that blocks return, if they return one

    @torch.no_grad()
    def boundary(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the input of the split point's block, ``(B, T, D)`` in the dtype of products, without dropout."""
        found: list[Tensor] = []

        def stop(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            found.append(inputs[0] if inputs else named[_HIDDEN])
            raise _Stop

        model = self._encoder.model  # not the backbone: an encoder-decoder needs the model to build decoder inputs
        hook = self._encoder.blocks[self._split_point].register_forward_pre_hook(stop, with_kwargs=True)
        with hooked(hook), kept_modes(model), contextlib.suppress(_Stop), self._runtime.autocast():
            model.eval()
            model(**batch)
        return found[0].to(self._dtype)

    def check(self, model: nn.Module, batch: dict[str, Tensor]) -> str:
        """Compare a full pass with one from the split point, inside `skippable`; return "" if they agree."""
        training = model.training
        try:
            model.eval()
            with torch.no_grad(), self._runtime.autocast():
                whole = model(**batch).logits.float()
                states = self.boundary(batch)
                if states.shape != (*batch["input_ids"].shape, self.width):
                    return f"block {self._split_point} shortens the sequence"  # Funnel
                if (mask := batch.get("attention_mask")) is not None:
                    states = states * mask.unsqueeze(-1).to(states.dtype)  # padding has no cached states
                split = model(**batch, **{STATES: states}).logits.float()
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
            return f"the model cannot start at block {self._split_point}: {error}"
        finally:
            model.train(training)
        difference = (whole - split).abs().max().item()
        if difference <= _TOLERANCE[self._dtype] * max(1.0, whole.abs().max().item()):
            return ""
        return f"starting at block {self._split_point} changes the logits by up to {difference:.3g}"

    @contextlib.contextmanager
    def skippable(self) -> Iterator[None]:
        """Let the model start at the split point when it gets `boundary`'s output as the argument `STATES`."""
        encoder, backbone = self._encoder, self._encoder.backbone
        with contextlib.ExitStack() as stack:
            stack.enter_context(replaced(encoder.model, self._taking_states(encoder.model.forward)))
            if isinstance(embeddings := getattr(backbone, "embeddings", None), nn.Module):
                stack.enter_context(replaced(embeddings, self._not_run(embeddings.forward)))
            if isinstance(wider := getattr(backbone, "embeddings_project", None), nn.Module):  # ELECTRA's
                stack.enter_context(replaced(wider, self._pass_on(wider.forward)))
            for block in list(encoder.blocks)[: self._split_point]:
                stack.enter_context(replaced(block, self._pass_on(block.forward)))
            first = encoder.blocks[self._split_point]
            stack.enter_context(replaced(first, self._start(first.forward)))
            yield

    def _taking_states(self, own: Any) -> Any:  # noqa: ANN401 - any forward
        def forward(*inputs: Any, **named: Any) -> Any:  # noqa: ANN401
            self._states = named.pop(STATES, None)
            try:
                return own(*inputs, **named)
            finally:
                self._states = None

        return forward

    def _not_run(self, own: Any) -> Any:  # noqa: ANN401 - any forward
        def forward(*inputs: Any, **named: Any) -> Any:  # noqa: ANN401
            return own(*inputs, **named) if self._states is None else self._states

        return forward

    def _start(self, own: Any) -> Any:  # noqa: ANN401 - any forward
        def forward(*inputs: Any, **named: Any) -> Any:  # noqa: ANN401
            if self._states is None:
                return own(*inputs, **named)
            if inputs:
                return own(self._states, *inputs[1:], **named)
            return own(**{**named, _HIDDEN: self._states})

        return forward

    def _pass_on(self, own: Any) -> Any:  # noqa: ANN401 - any forward
        def forward(*inputs: Any, **named: Any) -> Any:  # noqa: ANN401
            if self._states is None:
                output = own(*inputs, **named)
                self._n_returned = len(output) if isinstance(output, tuple) else None
                return output
            hidden_states = inputs[0] if inputs else named[_HIDDEN]
            return hidden_states if self._n_returned is None else (hidden_states, *[None] * (self._n_returned - 1))

        return forward
