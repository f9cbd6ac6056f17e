"""Run a prepared model with the engine's fast parts while a context lasts; frozen weights may not change in between."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from feathertune.encoders.patching import attention_set, hooked, kept_flags, kept_modes, replaced
from feathertune.encoders.trial import close, trial_batches
from feathertune.engine.kernels import attention
from feathertune.engine.kernels.block import Block
from feathertune.engine.kernels.last_layer import OneTokenBlock, ReadTokens
from feathertune.engine.kernels.layer import Called, Layer, run
from feathertune.engine.kernels.linear import Arithmetic
from feathertune.engine.kernels.matrix import Matrices
from feathertune.engine.kernels.tokens import Masks
from feathertune.engine.training.regression_head import fp32_forward, is_regression, output_layer
from feathertune.errors import first_line

if TYPE_CHECKING:
    from feathertune.config import EngineConfig
    from feathertune.encoders import LoadedEncoder
    from feathertune.encoders.block_form import BlockForm
    from feathertune.runtime import Runtime

# Transformers' names of keys and values that come before a block's own, such as a trained prefix, and of queries that
# are not its input.
_NOT_OURS = ("past_key_values", "past_key_value", "layer_past", "cache", "query_states")
# What blocks are given of positions: tables of rotations; embeddings of distances, and distances; a bias of the scores.
_POSITIONS = ("position_embeddings", "rel_embeddings", "relative_pos", "position_bias")
# Results of trials, which depend on the base model alone; a study prepares it for every run.
_found: dict[Hashable, Any] = {}


@dataclass
class FastParts:
    """Names of fast parts that a model runs with, notes on others, and its blocks if all of them run here."""

    parts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    blocks: list[Block | OneTokenBlock] = field(default_factory=list)


@contextlib.contextmanager
def fast_parts(
    encoder: LoadedEncoder, config: EngineConfig, runtime: Runtime, *, matrices: Matrices | None = None
) -> Iterator[FastParts]:
    """Run a prepared model, on its device, with the parts that fit it; `matrices` are shared with other models."""
    arithmetic = Arithmetic(
        runtime.product_dtype,
        fused=config.linear != "off",
        packed=config.packed != "off",
        recompute=config.recompute == "on",
        matrices=matrices or Matrices(),
    )
    fast = FastParts()
    is_wanted = config.attention == "auto" and runtime.device.type == "cpu"
    own_blocks = is_wanted and config.blocks != "off" and _blocks_fit(encoder)
    with contextlib.ExitStack() as stack:
        # Blocks are tried with the engine's attention: what fits them needs no trial of its own.
        if is_wanted and _has_interface(encoder) and (own_blocks or _attention_fits(encoder)):
            stack.enter_context(_attention(encoder))
            fast.parts.append("attention")
        if own_blocks:
            _replace_blocks(encoder, config, arithmetic, fast, stack)
        elif arithmetic.fused:
            _linear_layers(encoder, arithmetic, stack)
            fast.parts.append("linear layers")
        if not own_blocks and (not encoder.forms or (is_wanted and config.blocks != "off")):
            fast.notes.append(f"{encoder.spec.model_type} models run their own blocks.")
        if arithmetic.dtype != torch.float32 and is_regression(encoder):
            layer = output_layer(encoder)
            stack.enter_context(replaced(layer, fp32_forward(layer)))
            fast.parts.append("output in fp32")
        yield fast


def _replace_blocks(
    encoder: LoadedEncoder, config: EngineConfig, arithmetic: Arithmetic, fast: FastParts, stack: contextlib.ExitStack
) -> None:
    """Replace all blocks; the last one computes the token alone that the head reads, if there is one."""
    masks, modules = Masks(arithmetic.dtype), list(encoder.blocks)
    token = encoder.facts.token if config.last_layer != "off" and not encoder.spec.shared_blocks else None
    for module, form in zip(modules if token is None else modules[:-1], encoder.forms, strict=False):
        fast.blocks.append(Block(module, form, arithmetic=arithmetic, masks=masks))
    fast.parts.append("blocks")
    if token is not None:
        read = ReadTokens(token, encoder.model.config.get_text_config().pad_token_id)
        stack.enter_context(replaced(encoder.backbone, read.noting(encoder.backbone.forward)))
        of_last = partial(OneTokenBlock, modules[-1], encoder.forms[-1], form_keys=config.last_layer == "keys")
        fast.blocks.append(of_last(arithmetic=arithmetic, masks=masks, read=read))
        fast.parts.append("one query in the last layer")
    for module, block in zip(modules, fast.blocks, strict=True):
        stack.enter_context(replaced(module, block_forward(module, block, n_returned=block.form.n_returned)))


def _linear_layers(encoder: LoadedEncoder, arithmetic: Arithmetic, stack: contextlib.ExitStack) -> None:
    """Replace the linear layers of blocks that keep their own forward."""
    for name in encoder.linear_names():
        module = encoder.model.get_submodule(name)
        layer = arithmetic.product(module, "")
        if not isinstance(layer, Called):
            stack.enter_context(replaced(module, _linear_forward(layer, arithmetic.dtype)))


def _linear_forward(layer: Layer, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Return the forward of a linear layer on inputs of any shape."""

    def forward(x: Tensor) -> Tensor:
        rows = x.to(dtype).reshape(-1, x.shape[-1])
        return run(layer, rows).view(*x.shape[:-1], -1)

    return forward


def block_forward(module: nn.Module, block: Callable[..., Tensor], *, n_returned: int) -> Callable[..., Any]:
    """Return a block's forward with its module's signature; with keys and values from before the text, its own runs."""
    own = module.forward
    names = list(inspect.signature(type(module).forward).parameters)[1:]

    def called(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any forward
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        if any(given.get(name) is not None for name in _NOT_OURS):
            return own(*args, **kwargs)
        positions = [given[name] for name in _POSITIONS if given.get(name) is not None]
        if positions and isinstance(positions[0], tuple):
            positions = list(positions[0])
        output = block(given[names[0]], given.get("attention_mask"), positions)
        return (output, *[None] * (n_returned - 1)) if n_returned else output

    return called


def _has_interface(encoder: LoadedEncoder) -> bool:
    """Return whether a model calls attention by transformers' interface."""
    return bool(type(encoder.model)._supports_attention_backend)


def _attention_fits(encoder: LoadedEncoder) -> bool:
    """Return whether a model gives the same logits with the engine's attention."""
    return bool(_once(encoder, "attention", lambda: _same_logits(encoder, lambda: _attention(encoder))))


def _blocks_fit(encoder: LoadedEncoder) -> bool:
    """Return whether blocks still have the form that was read, and give the same logits by it."""
    pairs = list(zip(encoder.blocks, encoder.forms, strict=False))
    if not pairs or not all(form.fits(block) for block, form in pairs):
        return False
    return bool(_once(encoder, "blocks", lambda: _same_logits(encoder, lambda: _trial_blocks(encoder))))


def _once(encoder: LoadedEncoder, part: str, find: Callable[[], Any]) -> Any:  # noqa: ANN401 - what it finds
    """Return what a trial of a base model found before, or finds."""
    weight = next(encoder.backbone.parameters())
    key = (part, encoder.fingerprint, type(encoder.model), len(encoder.blocks), weight.dtype, weight.device)
    if key not in _found:
        _found[key] = find()
    return _found[key]


def _same_logits(encoder: LoadedEncoder, changed: Callable[[], AbstractContextManager[None]]) -> bool:
    """Return whether a change keeps the logits, tried on texts alone and together."""
    model = encoder.model
    weight = next(encoder.backbone.parameters())  # in bf16 those that are trained are not
    mixed = torch.autocast(weight.device.type, torch.bfloat16, enabled=weight.dtype == torch.bfloat16)
    # With a graph: attention has no gradient for a mask that is trained, and says so.
    with kept_modes(model), kept_flags(model), torch.enable_grad(), mixed:
        model.eval().requires_grad_(True)
        for batch in trial_batches(encoder):
            expected = model(**batch).logits
            try:
                with changed():
                    if not close(model(**batch).logits, expected):
                        return False
            except (NotImplementedError, RuntimeError, TypeError, ValueError, LookupError, AttributeError):
                return False
    return True


@contextlib.contextmanager
def _trial_blocks(encoder: LoadedEncoder) -> Iterator[None]:
    """Run each block by its form, made when it is called: its joined weights are a copy."""
    dtype = next(encoder.backbone.parameters()).dtype
    arithmetic, masks = Arithmetic(dtype, packed=False), Masks(dtype)

    def forward_of(module: nn.Module, form: BlockForm) -> Callable[..., Tensor]:
        return lambda *inputs: Block(module, form, arithmetic=arithmetic, masks=masks)(*inputs)

    with contextlib.ExitStack() as stack, _attention(encoder):
        for module, form in zip(encoder.blocks, encoder.forms, strict=True):
            forward = block_forward(module, forward_of(module, form), n_returned=form.n_returned)
            stack.enter_context(replaced(module, forward))
        yield


def fitting_runtime(encoder: LoadedEncoder, config: EngineConfig, runtime: Runtime) -> tuple[Runtime, tuple[str, ...]]:
    """Return the runtime, in fp32 with a note if the model cannot be trained in bf16, tried on two texts."""
    if runtime.product_dtype == torch.float32:
        return runtime, ()
    why = _once(encoder, f"bf16 {config} {runtime.device}", lambda: _failure(encoder, config, runtime))
    if not why:
        return runtime, ()
    note = f"{encoder.id} runs in fp32: in bf16 it fails ({why})."
    return replace(runtime, dtype="fp32", reason=note), (note,)


def _failure(encoder: LoadedEncoder, config: EngineConfig, runtime: Runtime) -> str:
    """Return why a step in the number format of products fails; empty if it does not."""
    model, why, home = encoder.model, "", next(encoder.model.parameters()).device
    start = encoder.blocks[0].register_forward_pre_hook(_needs_gradient, with_kwargs=True)
    with hooked(start), kept_modes(model), kept_flags(model), torch.enable_grad():
        model.to(runtime.device).train().requires_grad_(False)
        try:
            with fast_parts(encoder, config, runtime), runtime.autocast():
                logits = model(**trial_batches(encoder)[-1]).logits
            if logits.requires_grad:
                logits.float().square().sum().backward()
            if not torch.isfinite(logits).all():
                why = "its logits are not finite"
        except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            why = first_line(error)
    model.to(home)
    return why


def _needs_gradient(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:  # noqa: ANN401
    """Let autograd follow a block's input, which no trained parameter made."""
    hidden = inputs[0] if inputs else named.get("hidden_states")
    if not isinstance(hidden, Tensor) or not hidden.is_floating_point():
        return None
    hidden = hidden.detach().requires_grad_()
    return ((hidden, *inputs[1:]), named) if inputs else (inputs, {**named, "hidden_states": hidden})


def _attention(encoder: LoadedEncoder) -> AbstractContextManager[None]:
    if not _has_interface(encoder):
        return contextlib.nullcontext()
    attention.register()
    return attention_set(encoder.model.config, attention.NAME)


def turn_off_dropout(model: nn.Module) -> None:
    """Set every dropout that a frozen model has now to 0: it regularises nothing, and its masks take time."""
    for module in model.modules():
        # Some modules keep a rate as a number and call the function.
        rates = ["p"] if isinstance(module, nn.Dropout) else [name for name in vars(module) if "drop" in name]
        for name in rates:
            if isinstance(getattr(module, name), float):
                setattr(module, name, 0.0)
