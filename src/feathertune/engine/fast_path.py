"""Run a prepared model with the engine's fast parts while a context lasts; frozen weights may not change in between."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from feathertune.encoders.patching import hooked, kept_flags, kept_modes, replaced
from feathertune.encoders.trial import close, trial_batches
from feathertune.engine.kernels import attention
from feathertune.engine.kernels.block import Block
from feathertune.engine.kernels.last_layer import FirstTokenBlock
from feathertune.engine.kernels.layer import Called, Layer, run
from feathertune.engine.kernels.linear import Arithmetic
from feathertune.engine.kernels.matrix import Matrices
from feathertune.engine.training.regression_head import fp32_forward, is_regression, output_layer
from feathertune.errors import first_line

if TYPE_CHECKING:
    from feathertune.config import EngineConfig
    from feathertune.encoders import LoadedEncoder
    from feathertune.runtime import Runtime

# Transformers' names of keys and values that come before a block's own, such as a trained prefix.
_PAST = ("past_key_values", "past_key_value", "layer_past", "cache")


@dataclass
class FastParts:
    """Names of fast parts that a model runs with, notes on others, and its blocks if all of them run here."""

    parts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    blocks: list[Block | FirstTokenBlock] = field(default_factory=list)


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
    spec, on_cpu, own_attention = encoder.spec, runtime.device.type == "cpu", config.attention == "auto"
    post_norm = spec.post_norm is not None
    own_blocks = post_norm and own_attention and config.blocks != "off" and on_cpu
    first_token = post_norm and spec.reads_first and own_attention and "off" not in (config.last_layer, config.blocks)
    with contextlib.ExitStack() as stack:
        if own_attention and on_cpu and (post_norm or _attention_fits(encoder)):
            stack.enter_context(_attention(encoder.model.config))
            fast.parts.append("attention")
        if not post_norm:
            fast.notes.append(f"{spec.model_type} models run their own blocks.")
        if own_blocks:
            for module in list(encoder.blocks)[: -1 if first_token else None]:
                fast.blocks.append(Block(module, spec, n_heads=_n_heads(encoder), arithmetic=arithmetic))
                stack.enter_context(replaced(module, block_forward(module, fast.blocks[-1])))
            fast.parts.append("blocks")
        elif arithmetic.fused:
            _linear_layers(encoder, arithmetic, stack)
            fast.parts.append("linear layers")
        if first_token:
            module, form_keys = encoder.blocks[-1], config.last_layer == "keys"
            last = FirstTokenBlock(module, spec, n_heads=_n_heads(encoder), arithmetic=arithmetic, form_keys=form_keys)
            stack.enter_context(replaced(module, block_forward(module, last)))
            fast.blocks.append(last)
            fast.parts.append("one query in the last layer")
        if arithmetic.dtype != torch.float32 and is_regression(encoder):
            layer = output_layer(encoder)
            stack.enter_context(replaced(layer, fp32_forward(layer)))
            fast.parts.append("output in fp32")
        yield fast


def _n_heads(encoder: LoadedEncoder) -> int:
    return int(encoder.model.config.num_attention_heads)


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


def block_forward(block: nn.Module, forward: Callable[..., Tensor]) -> Callable[..., Any]:
    """Return `forward` with a block's signature; with keys and values from before the text, the block's own runs."""
    own = block.forward
    signature = inspect.signature(type(block).forward)
    names = list(signature.parameters)[1:]
    in_tuple = "tuple" in str(signature.return_annotation)

    def called(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any forward
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        if any(given.get(name) is not None for name in _PAST):
            return own(*args, **kwargs)
        output = forward(*args, **kwargs)
        return (output,) if in_tuple else output

    return called


def _attention_fits(encoder: LoadedEncoder) -> bool:
    """Return whether a model gives the same logits with the engine's attention, tried on texts alone and together."""
    model = encoder.model
    if not type(model)._supports_attention_backend:
        return False
    weight = next(encoder.backbone.parameters())  # in bf16 those that are trained are not
    mixed = torch.autocast(weight.device.type, torch.bfloat16, enabled=weight.dtype == torch.bfloat16)
    # With a graph: attention has no gradient for a mask that is trained, and says so.
    with kept_modes(model), kept_flags(model), torch.enable_grad(), mixed:
        model.eval().requires_grad_(True)
        for batch in trial_batches(encoder):
            expected = model(**batch).logits
            try:
                with _attention(model.config):
                    if not close(model(**batch).logits, expected):
                        return False
            except (NotImplementedError, RuntimeError, TypeError, ValueError, IndexError):
                return False
    return True


def fitting_runtime(encoder: LoadedEncoder, config: EngineConfig, runtime: Runtime) -> tuple[Runtime, tuple[str, ...]]:
    """Return the runtime, in fp32 with a note if the model cannot be trained in bf16, tried on two texts."""
    if runtime.product_dtype == torch.float32 or encoder.spec.post_norm is not None:
        return runtime, ()
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
    if not why:
        return runtime, ()
    note = f"{encoder.id} runs in fp32: in bf16 it fails ({why})."
    return replace(runtime, dtype="fp32", reason=note), (note,)


def _needs_gradient(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:  # noqa: ANN401
    """Let autograd follow a block's input, which no trained parameter made."""
    hidden = inputs[0] if inputs else named.get("hidden_states")
    if not isinstance(hidden, Tensor) or not hidden.is_floating_point():
        return None
    hidden = hidden.detach().requires_grad_()
    return ((hidden, *inputs[1:]), named) if inputs else (inputs, {**named, "hidden_states": hidden})


@contextlib.contextmanager
def _attention(config: Any) -> Iterator[None]:  # noqa: ANN401 - PretrainedConfig, which is untyped
    attention.register()
    before = config._attn_implementation
    config._attn_implementation = attention.NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def turn_off_dropout(model: nn.Module) -> None:
    """Set every dropout that a frozen model has now to 0: it regularises nothing, and its masks take time."""
    for module in model.modules():
        # Some modules keep a rate as a number and call the function.
        rates = ["p"] if isinstance(module, nn.Dropout) else [name for name in vars(module) if "drop" in name]
        for name in rates:
            if isinstance(getattr(module, name), float):
                setattr(module, name, 0.0)
