"""Which fast parts fit a prepared model, and putting them in its place for a while.

Only instances are changed, and only while the block lasts: a module's own forward comes back after it, so that what is
saved, checked and shipped is the model of transformers and PEFT. Parameters are shared, not copied, except for the
frozen matrices in the dtype of the products. Not for a model whose frozen weights change in between.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from feathertune.engine.kernels import interface
from feathertune.engine.kernels.block import Arithmetic, Block
from feathertune.engine.kernels.last_layer import OneQuery
from feathertune.engine.kernels.layer import Called, run
from feathertune.engine.kernels.linear import join
from feathertune.engine.kernels.matrix import Matrices
from feathertune.engine.replace import replaced
from feathertune.engine.training.regression_head import Unrounded, gives_numbers, output_layer

if TYPE_CHECKING:
    from feathertune.config import EngineConfig
    from feathertune.encoders import LoadedEncoder
    from feathertune.runtime import Runtime

# What releases of transformers call the keys and values that come before a block's own, such as a trained prefix.
_FROM_BEFORE = ("past_key_values", "past_key_value", "layer_past", "cache")


@dataclass
class Installed:
    """What was put in.

    Attributes:
        parts: Names.
        notes: In words, why others were not.
        blocks: In order, where all of them run here.
    """

    parts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    blocks: list[Block | OneQuery] = field(default_factory=list)


@contextlib.contextmanager
def fast_parts(
    encoder: LoadedEncoder, config: EngineConfig, runtime: Runtime, *, matrices: Matrices | None = None
) -> Iterator[Installed]:
    """Run a prepared model the fast way while the block lasts.

    Args:
        encoder: The encoder that a method has prepared; already on its device.
        config: The switches.
        runtime: The number format.
        matrices: Of other models that share parameters with this one, for as long as they live.
    """
    dtype = runtime.product_dtype
    arithmetic = Arithmetic(
        dtype,
        fused=config.linear != "off",
        packed=config.packed != "off",
        recompute=config.recompute == "on",
        matrices=matrices or Matrices(),
    )
    installed = Installed()
    with contextlib.ExitStack() as stack:
        own_attention = config.attention == "auto"
        if own_attention and runtime.device.type == "cpu" and type(encoder.model)._supports_sdpa:
            stack.enter_context(_attention(encoder.model.config))
            installed.parts.append("attention")
        own_blocks = own_attention and config.blocks != "off" and runtime.device.type == "cpu"
        if encoder.spec.post_norm is None:
            installed.notes.append(f"{encoder.spec.model_type} encoders run their own blocks.")
        one_query = (
            encoder.spec.post_norm is not None
            and encoder.spec.reads_first
            and own_attention
            and "off" not in (config.last_layer, config.blocks)
        )
        if encoder.spec.post_norm is None or not own_blocks:
            _linears(encoder, arithmetic, installed, stack)
        else:
            blocks = list(encoder.blocks)
            _blocks(encoder, blocks[:-1] if one_query else blocks, arithmetic, installed, stack)
        if one_query:
            _last_layer(encoder, arithmetic, installed, stack, form_keys=config.last_layer == "keys")
        if dtype != torch.float32 and gives_numbers(encoder):
            layer = output_layer(encoder)
            stack.enter_context(replaced(layer, Unrounded(layer)))
            installed.parts.append("output in fp32")
        yield installed


def _blocks(
    encoder: LoadedEncoder,
    blocks: Sequence[nn.Module],
    arithmetic: Arithmetic,
    installed: Installed,
    stack: contextlib.ExitStack,
) -> None:
    n_heads = int(encoder.model.config.num_attention_heads)
    for module in blocks:
        block = Block(module, encoder.spec, n_heads=n_heads, arithmetic=arithmetic)
        stack.enter_context(replaced(module, as_the_block_does(module, block)))
        installed.blocks.append(block)
    installed.parts.append("blocks")


def _last_layer(
    encoder: LoadedEncoder,
    arithmetic: Arithmetic,
    installed: Installed,
    stack: contextlib.ExitStack,
    *,
    form_keys: bool,
) -> None:
    module = encoder.blocks[-1]
    n_heads = int(encoder.model.config.num_attention_heads)
    query = OneQuery(module, encoder.spec, n_heads=n_heads, arithmetic=arithmetic, form_keys=form_keys)
    stack.enter_context(replaced(module, as_the_block_does(module, query)))
    installed.blocks.append(query)
    installed.parts.append("one query in the last layer")


def _linears(encoder: LoadedEncoder, arithmetic: Arithmetic, installed: Installed, stack: contextlib.ExitStack) -> None:
    """For blocks that keep their own forward: at least their products."""
    if not arithmetic.fused:
        return
    for name in encoder.linear_names():
        module = encoder.model.get_submodule(name)
        layer = join([module], arithmetic.dtype, packed=arithmetic.packed, matrices=arithmetic.matrices)
        if not isinstance(layer, Called):
            stack.enter_context(replaced(module, _Linear(layer, arithmetic.dtype)))
    installed.parts.append("linear layers")


class _Linear:
    """The forward of a linear layer, on inputs of any shape."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:  # noqa: ANN401
        self._layer, self._dtype = layer, dtype

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.to(self._dtype).reshape(-1, x.shape[-1])
        return run(self._layer, rows).view(*x.shape[:-1], -1)


def as_the_block_does(block: nn.Module, forward: Callable[..., Tensor]) -> Callable[..., Any]:
    """Called as the block is: keys and values from before go to its own forward, since ours knows none of them.

    Some releases of transformers want a tuple from a block.
    """
    own = block.forward
    signature = inspect.signature(type(block).forward)
    names = list(signature.parameters)[1:]
    in_tuple = "tuple" in str(signature.return_annotation)

    def called(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any forward
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        if any(given.get(name) is not None for name in _FROM_BEFORE):
            return own(*args, **kwargs)
        output = forward(*args, **kwargs)
        return (output,) if in_tuple else output

    return called


@contextlib.contextmanager
def _attention(config: Any) -> Iterator[None]:  # noqa: ANN401 - PretrainedConfig, which is untyped
    interface.register()
    before = config._attn_implementation
    config._attn_implementation = interface.NAME
    try:
        yield
    finally:
        config._attn_implementation = before
