"""Run a transformer block (attention and MLP) as one autograd node; the reference is the module's own forward."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from feathertune.encoders.block_form import Norms, rate_of
from feathertune.engine.kernels.activation import Gated, activation
from feathertune.engine.kernels.disentangled import DisentangledAttention, Distances
from feathertune.engine.kernels.heads import HeadNorms, Rotary, SelfAttention
from feathertune.engine.kernels.layer import Gradients, Layer, Recomputed, run
from feathertune.engine.kernels.linear import Arithmetic
from feathertune.engine.kernels.multi_model_layers import CombinedResiduals, ModelRows, combine_layers
from feathertune.engine.kernels.norm import Norm, Residual, norm_layer
from feathertune.engine.kernels.tokens import Masks, Tokens

if TYPE_CHECKING:
    from feathertune.encoders.block_form import BlockForm

# transformers' argument names for keys and values from before the text, such as a trained prefix, and for queries other
# than the block's input.
_NOT_OURS = ("past_key_values", "past_key_value", "layer_past", "cache", "query_states")
# Arguments that carry positions: tables of cosines and sines; embeddings of distances, and distances; a bias.
_POSITIONS = ("position_embeddings", "rel_embeddings", "relative_pos", "position_bias")
PositionTensors = Sequence[Tensor]
Heads = SelfAttention | DisentangledAttention


class ReadPositions(NamedTuple):
    """Positions of a pass; exactly one kind is set, or none."""

    rotary: Rotary | None = None
    distances: Distances | None = None
    bias: Tensor | None = None


def read_positions(form: BlockForm, positions: PositionTensors, *, dropout: float) -> ReadPositions:
    """Return a block's positions; `dropout` applies to embeddings of distances."""
    match form.positions:
        case "rotary":
            return ReadPositions(rotary=Rotary(*positions))
        case "disentangled":
            return ReadPositions(distances=Distances(*positions, dropout=dropout))
        case "bias":
            return ReadPositions(bias=positions[0])
        case _:
            return ReadPositions()


class Block:
    """A block's replacement forward, built from its form; a model's blocks share `masks`."""

    def __init__(self, module: nn.Module, form: BlockForm, *, arithmetic: Arithmetic, masks: Masks) -> None:
        self.form, self._masks, self._recompute = form, masks, arithmetic.recompute
        self._before = optional_norm(module, form.attention_norms.before, arithmetic.dtype)
        self._qkv = arithmetic.product(module, *form.qkv)
        self._norms = HeadNorms(module, form, arithmetic.dtype)
        layers = form.position_layers
        self._distances = arithmetic.product(module, *layers) if layers else None
        self._after = AfterAttention(module, form, arithmetic)
        self._rate = rate(module, form.attention_dropout)
        self._position_rate = rate(module, form.position_dropout)
        self._dtype, self._stream_dtype = arithmetic.dtype, stream_dtype(module, form, arithmetic.dtype)

    def __call__(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, positions: PositionTensors = ()
    ) -> Tensor:
        """Map ``(B, T, D)`` to ``(B, T, D)``."""
        b, t, width = hidden_states.shape
        mask, tokens = self._masks.read(attention_mask, of_ones=self.form.positions == "disentangled")
        heads = self._heads(mask, positions)
        layer: Layer = _Pass(self, heads, tokens, b)
        if self._recompute and torch.is_grad_enabled():
            layer = Recomputed(layer)
        return run(layer, hidden_states.to(self._stream_dtype).view(b * t, width)).view(b, t, width)

    def _heads(self, mask: Tensor | None, positions: PositionTensors) -> Heads:
        read = read_positions(self.form, positions, dropout=self._position_rate())
        if self._distances is not None:
            assert read.distances is not None, "the form has distances"
            return DisentangledAttention(self.form, self._distances, read.distances, mask, self._rate())
        return SelfAttention(self.form, self._norms, mask, read.rotary, self._rate(), bias=read.bias)

    @classmethod
    def combine(cls, blocks: Sequence[Block], rows: ModelRows) -> Block:
        """Combine one block of several models on one encoder, forward only; raise ValueError if they do not match."""
        one = copy.copy(blocks[0])
        one._norms.require_same([block._norms for block in blocks])
        if one._distances is not None:
            raise ValueError("each model has a separate projection of distances")
        one._before = combine_optional([block._before for block in blocks], rows)
        one._qkv = combine_layers([block._qkv for block in blocks], rows)
        one._after = AfterAttention.combine([block._after for block in blocks], rows)
        return one


def block_forward(module: nn.Module, block: Callable[..., Tensor], *, n_returned: int) -> Callable[..., Any]:
    """Return a forward with the module's signature; calls with keys from before the text run the module's own."""
    own, by_name = module.forward, arguments_by_name(module)

    def called(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any forward
        hidden, given = by_name(args, kwargs)
        if any(given.get(name) is not None for name in _NOT_OURS):
            return own(*args, **kwargs)
        positions = [given[name] for name in _POSITIONS if given.get(name) is not None]
        if positions and isinstance(positions[0], tuple):
            positions = list(positions[0])
        output = block(hidden, given.get("attention_mask"), positions)
        return (output, *[None] * (n_returned - 1)) if n_returned else output

    return called


def arguments_by_name(module: nn.Module) -> Callable[[Sequence[Any], dict[str, Any]], tuple[Tensor, dict[str, Any]]]:
    """Return a function that splits a call's arguments into the block's input and the rest, by name."""
    first, *names = list(inspect.signature(type(module).forward).parameters)[1:]

    def read(args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        given = {**dict(zip([first, *names], args, strict=False)), **kwargs}
        return given.pop(first), given

    return read


class _Pass:
    """One pass of a block: heads run over all rows of the batch, everything else over token rows only."""

    def __init__(
        self, block: Block, heads: SelfAttention | DisentangledAttention, tokens: Tokens | None, b: int
    ) -> None:
        self._before, self._qkv, self._after, self._dtype = block._before, block._qkv, block._after, block._dtype
        self._heads, self._tokens, self._b = heads, tokens, b
        before = () if self._before is None else self._before.parameters
        self.parameters = (*before, *self._qkv.parameters, *heads.parameters, *self._after.parameters)

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        tokens, of_before = self._tokens, None
        if tokens is not None:
            x = tokens.take(x)
        normed = x.to(self._dtype)
        if self._before is not None:
            normed, of_before = self._before.forward(x)
        qkv, of_qkv = self._qkv.forward(normed)
        attended, of_heads = self._heads.forward(qkv if tokens is None else tokens.spread(qkv), self._b)
        output, of_after = self._after.forward(attended if tokens is None else tokens.take(attended), x)
        return output if tokens is None else tokens.put(output), [of_before, of_qkv, of_heads, of_after]

    def backward(self, gradient: Tensor, saved: list[Any], *, wants_x: bool) -> tuple[Tensor | None, Gradients]:
        # Pop from the list, which the caller holds too, so that each entry is freed before the next piece runs.
        tokens = self._tokens
        if tokens is not None:
            gradient = tokens.take_gradient(gradient)
        grad_attended, grad_residual, grads = self._after.backward(gradient, saved.pop())
        if tokens is not None:
            grad_attended = tokens.put(grad_attended)
        grad_qkv, grads_heads = self._heads.backward(grad_attended, saved.pop(), self._b)
        del grad_attended
        if tokens is not None:
            grad_qkv = tokens.take_gradient(grad_qkv)
        wants_normed = wants_x or (self._before is not None and bool(self._before.parameters))
        grad_x, grads_qkv = self._qkv.backward(grad_qkv, saved.pop(), wants_x=wants_normed)
        grads = [*grads_qkv, *grads_heads, *grads]
        of_before = saved.pop()
        if self._before is not None and grad_x is not None:
            grad_x, grads_before = self._before.backward(grad_x, of_before, wants_x=wants_x)
            grads = [*grads_before, *grads]
        if grad_x is not None:
            grad_x = grad_residual + grad_x
            grad_x = grad_x if tokens is None else tokens.put(grad_x)
        return grad_x, grads


class AfterAttention:
    """The row-wise rest of a block after its heads: output projection and MLP, each with its residual."""

    def __init__(self, module: nn.Module, form: BlockForm, arithmetic: Arithmetic) -> None:
        dtype = self._dtype = arithmetic.dtype
        self._output = arithmetic.product(module, form.output)
        first = _residual(module, form.attention_norms, form.output_dropout, dtype)
        second = _residual(module, form.mlp_norms, form.mlp_dropout, dtype)
        self._residual1: Residual | CombinedResiduals = first
        self._before = optional_norm(module, form.mlp_norms.before, dtype)
        self._up = arithmetic.product(module, *form.up)
        function = activation(module.get_submodule(form.activation), dtype)
        self._activation = Gated(function) if form.is_gated else function
        self._down = arithmetic.product(module, form.down)
        self._residual2: Residual | CombinedResiduals = second
        before = () if self._before is None else (self._before,)
        pieces = (self._output, first, *before, self._up, self._activation, self._down, second)
        self.parameters: tuple[Tensor, ...] = tuple(p for piece in pieces for p in piece.parameters)

    @classmethod
    def combine(cls, parts: Sequence[AfterAttention], rows: ModelRows) -> AfterAttention:
        """Combine the parts of several models on one encoder; forward only."""
        one = copy.copy(parts[0])
        one._output = combine_layers([part._output for part in parts], rows)
        one._before = combine_optional([part._before for part in parts], rows)
        one._up = combine_layers([part._up for part in parts], rows)
        one._down = combine_layers([part._down for part in parts], rows)
        one._residual1 = CombinedResiduals([part._residual1 for part in parts], rows)
        one._residual2 = CombinedResiduals([part._residual2 for part in parts], rows)
        one.parameters = ()
        return one

    def forward(self, attended: Tensor, x: Tensor) -> tuple[Tensor, Any]:
        """Map the heads' outputs ``(N, H d)`` and the block's input ``(N, D)`` to the block's output ``(N, D)``."""
        projected, of_output = self._output.forward(attended)
        middle, of_residual1 = self._residual1.forward(projected, x)
        normed, of_before = middle.to(self._dtype), None
        if self._before is not None:
            normed, of_before = self._before.forward(middle)
        wide, of_up = self._up.forward(normed)
        active, of_activation = self._activation.forward(wide)
        thin, of_down = self._down.forward(active)
        output, of_residual2 = self._residual2.forward(thin, middle)
        return output, [of_output, of_residual1, of_before, of_up, of_activation, of_down, of_residual2]

    def backward(self, gradient: Tensor, saved: list[Any]) -> tuple[Tensor, Tensor, Gradients]:
        """Return the gradients of the heads' outputs, the block's input (residual only) and the parameters."""
        grad_thin, grad_middle, g_residual2 = self._residual2.backward(gradient, saved.pop())
        grad_active, g_down = _backward(self._down, grad_thin, saved.pop())
        del grad_thin
        grad_wide, g_activation = _backward(self._activation, grad_active, saved.pop())
        del grad_active
        grad_through, g_up = _backward(self._up, grad_wide, saved.pop())
        del grad_wide
        of_before, g_before = saved.pop(), Gradients()
        if self._before is not None:
            grad_through, g_before = _backward(self._before, grad_through, of_before)
        grad_projected, grad_x, g_residual1 = self._residual1.backward(grad_middle + grad_through, saved.pop())
        grad_attended, g_output = _backward(self._output, grad_projected, saved.pop())
        grads = [*g_output, *g_residual1, *g_before, *g_up, *g_activation, *g_down, *g_residual2]
        return grad_attended, grad_x, grads


def _backward(layer: Layer, gradient: Tensor, saved: Any) -> tuple[Tensor, Gradients]:  # noqa: ANN401
    grad, grads = layer.backward(gradient, saved, wants_x=True)
    assert grad is not None, "wants_x is True"
    return grad, grads


def stream_dtype(module: nn.Module, form: BlockForm, dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of the block's input and output: the products' dtype if each residual sum is normalised.

    Otherwise sums grow from block to block, and bf16 would lose what a block adds.
    """
    if form.attention_norms.of_sum is not None:
        return dtype
    name = form.mlp_norms.before or form.mlp_norms.after
    weight = None if name is None else next(module.get_submodule(name).parameters(), None)
    return dtype if weight is None else weight.dtype


def optional_norm(module: nn.Module, name: str | None, dtype: torch.dtype) -> Norm | None:
    """Return a block's norm by name, or ``None`` without a name."""
    return None if name is None else norm_layer(module.get_submodule(name), dtype)


def combine_optional(norms: Sequence[Norm | None], rows: ModelRows) -> Any:  # noqa: ANN401 - Norm, or several combined
    """Combine one norm of several models on one encoder; forward only."""
    found = [norm for norm in norms if norm is not None]
    return combine_layers(found, rows) if found else None


def _residual(module: nn.Module, norms: Norms, dropout: str | None, dtype: torch.dtype) -> Residual:
    after, of_sum = (optional_norm(module, name, dtype) for name in (norms.after, norms.of_sum))
    return Residual(rate(module, dropout), after=after, of_sum=of_sum)


def rate(module: nn.Module, path: str | None) -> Callable[[], float]:
    """Return a function that returns a block's current dropout rate: 0 outside training."""
    if path is None:
        return lambda: 0.0
    parent, _, name = path.rpartition(".")
    holder = module.get_submodule(parent)
    found = getattr(holder, name)
    asked = found if isinstance(found, nn.Module) else holder
    return lambda: rate_of(holder, name) if asked.training else 0.0
