"""Run a prepared model with the engine's fast parts inside a context. Frozen weights must not change meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from feathertune.encoders.patching import hooked, kept_flags, kept_modes, replaced
from feathertune.encoders.trial import trial_batches
from feathertune.engine.fit import attention_fits, attention_of, blocks_fit, has_interface, once
from feathertune.engine.kernels.block import Block, block_forward
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
    from feathertune.runtime import Runtime


@dataclass
class FastParts:
    """Names of a model's active fast parts, notes for the user, and its blocks if the engine runs all of them."""

    parts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    blocks: list[Block | OneTokenBlock] = field(default_factory=list)


@contextlib.contextmanager
def fast_parts(
    encoder: LoadedEncoder, config: EngineConfig, runtime: Runtime, *, matrices: Matrices | None = None
) -> Iterator[FastParts]:
    """Run a prepared model, on its device, with the parts that support it; `matrices` are shared with other models."""
    arithmetic = Arithmetic(
        runtime.product_dtype,
        fused=config.linear != "off",
        packed=config.packed != "off",
        recompute=config.recompute == "on",
        matrices=matrices or Matrices(),
    )
    fast = FastParts()
    is_wanted = config.attention == "auto" and runtime.device.type == "cpu"
    own_blocks = is_wanted and config.blocks != "off" and blocks_fit(encoder)
    with contextlib.ExitStack() as stack:
        # The trial of the blocks uses the engine's attention, so attention then needs no separate trial.
        if is_wanted and has_interface(encoder) and (own_blocks or attention_fits(encoder)):
            stack.enter_context(attention_of(encoder))
            fast.parts.append("attention")
        if own_blocks:
            _replace_blocks(encoder, config, arithmetic, fast, stack)
        elif arithmetic.fused:
            _linear_layers(encoder, arithmetic, stack)
            fast.parts.append("linear layers")
        if not own_blocks and (not encoder.forms or (is_wanted and config.blocks != "off")):
            fast.notes.append(f"{encoder.spec.model_type} models run transformers' blocks, not the engine's.")
        if arithmetic.dtype != torch.float32 and is_regression(encoder):
            layer = output_layer(encoder)
            stack.enter_context(replaced(layer, fp32_forward(layer)))
            fast.parts.append("output in fp32")
        yield fast


def _replace_blocks(
    encoder: LoadedEncoder, config: EngineConfig, arithmetic: Arithmetic, fast: FastParts, stack: contextlib.ExitStack
) -> None:
    """Replace all blocks; the last one computes only the token that the head reads, if it reads a single token."""
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


def fitting_runtime(encoder: LoadedEncoder, config: EngineConfig, runtime: Runtime) -> tuple[Runtime, tuple[str, ...]]:
    """Return the runtime, switched to fp32 with a note if training two texts in bf16 fails."""
    if runtime.product_dtype == torch.float32:
        return runtime, ()
    why = once(encoder, f"bf16 {config} {runtime.device}", lambda: _failure(encoder, config, runtime))
    if not why:
        return runtime, ()
    note = f"{encoder.id} runs in fp32 because it fails in bf16: {why}."
    return replace(runtime, dtype="fp32", reason=note), (note,)


def _failure(encoder: LoadedEncoder, config: EngineConfig, runtime: Runtime) -> str:
    """Return the reason why a training step fails in the runtime's number format, or an empty string."""
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
    """Require a gradient for a block's input, which depends on no trained parameter."""
    hidden = inputs[0] if inputs else named.get("hidden_states")
    if not isinstance(hidden, Tensor) or not hidden.is_floating_point():
        return None
    hidden = hidden.detach().requires_grad_()
    return ((hidden, *inputs[1:]), named) if inputs else (inputs, {**named, "hidden_states": hidden})


def turn_off_dropout(model: nn.Module) -> None:
    """Set every dropout rate of a frozen model to 0: dropout regularises nothing there, and its masks take time."""
    for module in model.modules():
        # Some modules store the rate as a number and call the dropout function.
        rates = ["p"] if isinstance(module, nn.Dropout) else [name for name in vars(module) if "drop" in name]
        for name in rates:
            if isinstance(getattr(module, name), float):
                setattr(module, name, 0.0)
