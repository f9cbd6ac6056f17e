"""Trials of the engine's attention and blocks on a base model: where they give other results, they are not used."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from feathertune.encoders.patching import attention_set, hooked, kept_flags, kept_modes
from feathertune.encoders.trial import close, trial_batches
from feathertune.engine.kernels import attention
from feathertune.engine.kernels.block import Block, arguments_by_name, block_forward
from feathertune.engine.kernels.linear import Arithmetic
from feathertune.engine.kernels.tokens import Masks

if TYPE_CHECKING:
    from feathertune.encoders import LoadedEncoder
    from feathertune.encoders.block_form import BlockForm

# Errors of a pass that a part does not fit.
_DOES_NOT_FIT = (NotImplementedError, RuntimeError, TypeError, ValueError, LookupError, AttributeError)
# Largest difference of a block's output in fp32, as a share of what it adds to its input and a little of its output,
# which fp32 rounds.
_TOLERANCE, _STREAM_SHARE = 1e-3, 1e-2
# Results of trials, which depend on the base model alone; a study prepares it for every run.
_found: dict[Hashable, Any] = {}
_Call = tuple[Tensor, dict[str, Any]]


def attention_fits(encoder: LoadedEncoder) -> bool:
    """Return whether a model gives the same logits with the engine's attention."""
    return bool(once(encoder, "attention", lambda: _same_logits(encoder, lambda: attention_of(encoder))))


def blocks_fit(encoder: LoadedEncoder) -> bool:
    """Return whether blocks still have the form that was read, and give the same output by it."""
    pairs = list(zip(encoder.blocks, encoder.forms, strict=False))
    if not pairs or not all(form.fits(block) for block, form in pairs):
        return False
    return bool(once(encoder, "blocks", lambda: _same_blocks(encoder)))


def once(encoder: LoadedEncoder, part: str, find: Callable[[], Any]) -> Any:  # noqa: ANN401 - what it finds
    """Return what a trial of a base model found before, or finds."""
    weight = next(encoder.backbone.parameters())
    key = (part, encoder.fingerprint, type(encoder.model), len(encoder.blocks), weight.dtype, weight.device)
    if key not in _found:
        _found[key] = find()
    return _found[key]


def _same_logits(encoder: LoadedEncoder, changed: Callable[[], AbstractContextManager[None]]) -> bool:
    """Return whether a change keeps the logits, tried on texts alone and together."""
    with _trial_mode(encoder.model):
        for batch in trial_batches(encoder):
            expected = _trial_pass(encoder, batch)
            try:
                with changed():
                    if not close(_trial_pass(encoder, batch), expected):
                        return False
            except _DOES_NOT_FIT:
                return False
    return True


def _same_blocks(encoder: LoadedEncoder) -> bool:
    """Return whether each block changes its input equally by its form, tried in fp32 on texts alone and together.

    Block by block, since a copy of a whole model may not fit, and rounding of bf16 adds up over its blocks.
    """
    forms = dict(zip(encoder.blocks, encoder.forms, strict=False))
    with _trial_mode(encoder.model):
        for batch in trial_batches(encoder):
            expected = _block_calls(encoder, batch)
            is_token = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()
            try:
                with attention_of(encoder):
                    calls = _block_calls(encoder, batch)  # masks depend on attention
                for (module, own), (_, given) in zip(expected, calls, strict=True):
                    if not _same_output(module, forms[module], own, given, is_token):
                        return False
            except _DOES_NOT_FIT:
                return False
    return True


def _same_output(module: nn.Module, form: BlockForm, own: _Call, given: _Call, is_token: Tensor) -> bool:
    """Return whether a block adds the same to its input by its form as by itself, for each token ``(B, T)``.

    `own` and `given` are its calls with transformers' and the engine's attention.
    """
    if any(parameter.dtype != torch.float32 for parameter in module.parameters()):
        module = copy.deepcopy(module).float()
    block = Block(module, form, arithmetic=Arithmetic(torch.float32, packed=False), masks=Masks(torch.float32))
    hidden, arguments = own
    expected = module(hidden, **arguments)
    expected = (expected[0] if isinstance(expected, tuple) else expected)[is_token]
    values = block_forward(module, block, n_returned=0)(hidden, **given[1])[is_token]
    # Some states are a thousand times larger than others, and than what a block adds to them.
    size = (expected - hidden[is_token]).abs().amax(dim=-1) + _STREAM_SHARE * expected.abs().amax(dim=-1)
    return bool(((values - expected).abs().amax(dim=-1) <= _TOLERANCE * size + 1e-6).all())


def _block_calls(encoder: LoadedEncoder, batch: dict[str, Tensor]) -> list[tuple[nn.Module, _Call]]:
    """Return each block with its input and other arguments, tensors in fp32, in the order of a pass."""
    found: list[tuple[nn.Module, _Call]] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append((module, tree_map(_in_fp32, arguments_by_name(module)(args, kwargs))))

    with hooked(*(block.register_forward_pre_hook(note, with_kwargs=True) for block in encoder.blocks)):
        _trial_pass(encoder, batch)
    return found


def _in_fp32(value: Any) -> Any:  # noqa: ANN401 - any argument
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


@contextlib.contextmanager
def _trial_mode(model: nn.Module) -> Iterator[None]:
    """Set a model for trials. With a graph: attention has no gradient for a mask that is trained, and says so."""
    with kept_modes(model), kept_flags(model), torch.enable_grad():
        model.eval().requires_grad_(True)
        yield


def _trial_pass(encoder: LoadedEncoder, batch: dict[str, Tensor]) -> Tensor:
    """Return the logits of a batch; in bf16, trained parameters are not, so products are under autocast."""
    weight = next(encoder.backbone.parameters())
    with torch.autocast(weight.device.type, torch.bfloat16, enabled=weight.dtype == torch.bfloat16):
        logits: Tensor = encoder.model(**batch).logits
    return logits


def has_interface(encoder: LoadedEncoder) -> bool:
    """Return whether a model calls attention by transformers' interface."""
    return bool(type(encoder.model)._supports_attention_backend)


def attention_of(encoder: LoadedEncoder) -> AbstractContextManager[None]:
    """Let a model use the engine's attention, if it calls attention by transformers' interface."""
    if not has_interface(encoder):
        return contextlib.nullcontext()
    attention.register()
    return attention_set(encoder.model.config, attention.NAME)
