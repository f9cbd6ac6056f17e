"""Try the engine's attention and blocks on a base model; they are used only if they give the same results."""

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

# Errors raised by a pass that a fast part does not support.
_DOES_NOT_FIT = (NotImplementedError, RuntimeError, TypeError, ValueError, LookupError, AttributeError)
# Largest difference in a block's fp32 output, relative to what the block adds to its input plus a small share of the
# output, to allow for rounding.
_TOLERANCE, _STREAM_SHARE = 1e-3, 1e-2
# Trial results, which depend only on the base model. A study prepares that model again for every run.
_found: dict[Hashable, Any] = {}
_Call = tuple[Tensor, dict[str, Any]]


def attention_fits(encoder: LoadedEncoder) -> bool:
    """Return True if a model gives the same logits with the engine's attention."""
    return bool(once(encoder, "attention", lambda: _same_logits(encoder, lambda: attention_of(encoder))))


def blocks_fit(encoder: LoadedEncoder) -> bool:
    """Return True if the blocks still have their recorded form, and the engine gives the same output for it."""
    pairs = list(zip(encoder.blocks, encoder.forms, strict=False))
    if not pairs or not all(form.fits(block) for block, form in pairs):
        return False
    return bool(once(encoder, "blocks", lambda: _same_blocks(encoder)))


def once(encoder: LoadedEncoder, part: str, find: Callable[[], Any]) -> Any:  # noqa: ANN401 - any result
    """Return the cached result of a base model's trial; run the trial the first time."""
    weight = next(encoder.backbone.parameters())
    key = (part, encoder.fingerprint, type(encoder.model), len(encoder.blocks), weight.dtype, weight.device)
    if key not in _found:
        _found[key] = find()
    return _found[key]


def _same_logits(encoder: LoadedEncoder, changed: Callable[[], AbstractContextManager[None]]) -> bool:
    """Return True if a change keeps the logits, tried on single texts and on a batch."""
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
    """Return True if the engine reproduces what each block adds to its input, in fp32, on single texts and on a batch.

    Blocks are compared one by one: a copy of a whole model may not fit, and bf16 rounding adds up over the blocks.
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
    """Return True if the engine's version of a block matches the module for each token ``(B, T)``.

    `own` and `given` are the module's calls with transformers' attention and with the engine's.
    """
    if any(parameter.dtype != torch.float32 for parameter in module.parameters()):
        module = copy.deepcopy(module).float()
    block = Block(module, form, arithmetic=Arithmetic(torch.float32, packed=False), masks=Masks(torch.float32))
    hidden, arguments = own
    expected = module(hidden, **arguments)
    expected = (expected[0] if isinstance(expected, tuple) else expected)[is_token]
    values = block_forward(module, block, n_returned=0)(hidden, **given[1])[is_token]
    # Some states are a thousand times larger than others, or than what a block adds to them.
    size = (expected - hidden[is_token]).abs().amax(dim=-1) + _STREAM_SHARE * expected.abs().amax(dim=-1)
    return bool(((values - expected).abs().amax(dim=-1) <= _TOLERANCE * size + 1e-6).all())


def _block_calls(encoder: LoadedEncoder, batch: dict[str, Tensor]) -> list[tuple[nn.Module, _Call]]:
    """Return each block with its input and other arguments, tensors in fp32, in forward order."""
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
    """Put a model into trial mode, with a graph: the engine's attention raises an error for a trained mask."""
    with kept_modes(model), kept_flags(model), torch.enable_grad():
        model.eval().requires_grad_(True)
        yield


def _trial_pass(encoder: LoadedEncoder, batch: dict[str, Tensor]) -> Tensor:
    """Return the logits of a batch, under autocast if the model is in bf16, because trained parameters are not."""
    weight = next(encoder.backbone.parameters())
    with torch.autocast(weight.device.type, torch.bfloat16, enabled=weight.dtype == torch.bfloat16):
        logits: Tensor = encoder.model(**batch).logits
    return logits


def has_interface(encoder: LoadedEncoder) -> bool:
    """Return True if a model calls attention through transformers' interface."""
    return bool(type(encoder.model)._supports_attention_backend)


def attention_of(encoder: LoadedEncoder) -> AbstractContextManager[None]:
    """Let a model use the engine's attention, if it calls attention through transformers' interface."""
    if not has_interface(encoder):
        return contextlib.nullcontext()
    attention.register()
    return attention_set(encoder.model.config, attention.NAME)
