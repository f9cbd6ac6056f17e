"""A post-norm block (BERT, RoBERTa, ELECTRA, DistilBERT) as one autograd node; the reference is its own forward."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from feathertune.engine.kernels import attention
from feathertune.engine.kernels.layer import Called, Gradients, Layer, Recomputed, run
from feathertune.engine.kernels.linear import Arithmetic
from feathertune.engine.kernels.multi_model_layers import CombinedNorms, ModelRows, combine_layers
from feathertune.engine.kernels.norm import AddNorm, dropout_share
from feathertune.engine.kernels.tokens import Tokens

if TYPE_CHECKING:
    from feathertune.encoders import EncoderSpec


class Block:
    """The forward of one post-norm block with `n_heads` heads, which replaces the module's own."""

    def __init__(self, module: nn.Module, spec: EncoderSpec, *, n_heads: int, arithmetic: Arithmetic) -> None:
        self._n_heads, self._dtype, self._recompute = n_heads, arithmetic.dtype, arithmetic.recompute
        self._qkv = arithmetic.product(module, *spec.query, *spec.key, *spec.value)
        self._after = AfterAttention(module, spec, arithmetic)
        self._dropout = attention_dropout(module, spec)

    def __call__(self, hidden_states: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:  # noqa: ANN401
        """``(B, T, D)`` to ``(B, T, D)``, in the dtype of the products."""
        b, t, width = hidden_states.shape
        mask = padding_row(attention_mask, self._dtype)
        heads = _SelfAttention(b, t, self._n_heads, mask, dropout_share(self._dropout))
        layer: Layer = _Pass(self._qkv, heads, self._after, Tokens.of(mask))
        if self._recompute and torch.is_grad_enabled():
            layer = Recomputed(layer)
        return run(layer, hidden_states.to(self._dtype).view(b * t, width)).view(b, t, width)

    @classmethod
    def combine(cls, blocks: Sequence[Block], rows: ModelRows) -> Block:
        """Combine the same block of several models on one encoder; forward only."""
        one = copy.copy(blocks[0])
        one._qkv = combine_layers([block._qkv for block in blocks], rows)
        one._after = AfterAttention.combine([block._after for block in blocks], rows)
        return one


class _Pass:
    """Run a block over the tokens of one batch, and its heads over all rows."""

    def __init__(self, qkv: Layer, heads: _SelfAttention, after: AfterAttention, tokens: Tokens | None) -> None:
        self._qkv, self._heads, self._after, self._tokens = qkv, heads, after, tokens
        self.parameters = (*qkv.parameters, *after.parameters)

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        tokens = self._tokens
        if tokens is not None:
            x = tokens.take(x)
        qkv, of_qkv = self._qkv.forward(x)
        attended, of_heads = self._heads.forward(qkv if tokens is None else tokens.put(qkv))
        output, of_after = self._after.forward(attended if tokens is None else tokens.take(attended), x)
        return output if tokens is None else tokens.put(output), [of_qkv, of_heads, of_after]

    def backward(self, gradient: Tensor, saved: list[Any], *, wants_x: bool) -> tuple[Tensor | None, Gradients]:
        # Popped from the list, which the caller holds too: each entry is freed before the next piece runs.
        tokens = self._tokens
        if tokens is not None:
            gradient = tokens.take_gradient(gradient)
        grad_attended, grad_residual, grads = self._after.backward(gradient, saved.pop())
        if tokens is not None:
            grad_attended = tokens.put(grad_attended)
        grad_qkv = self._heads.backward(grad_attended, saved.pop())
        del grad_attended
        if tokens is not None:
            grad_qkv = tokens.take_gradient(grad_qkv)
        grad_x, grads_qkv = self._qkv.backward(grad_qkv, saved.pop(), wants_x=wants_x)
        if grad_x is not None:
            grad_x.add_(grad_residual)
            grad_x = grad_x if tokens is None else tokens.put(grad_x)
        return grad_x, grads_qkv + grads


class _SelfAttention:
    """Heads over one tensor of queries, keys and values ``(B T, 3 D)``, so that their gradient is one tensor too."""

    def __init__(self, b: int, t: int, n_heads: int, mask: Tensor | None, dropout: float) -> None:
        self._shape, self._mask, self._dropout = (b, t, 3, n_heads, -1), mask, dropout

    def forward(self, qkv: Tensor) -> tuple[Tensor, Any]:
        q, k, v = qkv.view(self._shape).permute(2, 0, 3, 1, 4).contiguous().unbind(0)
        scaling = q.shape[-1] ** -0.5
        output, saved = attention.forward(q, k, v, self._mask, scaling=scaling, dropout=self._dropout)
        return output.transpose(1, 2).reshape(len(qkv), -1), saved

    def backward(self, gradient: Tensor, saved: Any) -> Tensor:  # noqa: ANN401
        b, t, _, h, _ = self._shape
        heads = gradient.view(b, t, h, -1).transpose(1, 2)
        scaling = heads.shape[-1] ** -0.5
        grad_q, grad_k, grad_v = attention.backward(heads, saved, scaling=scaling, dropout=self._dropout)
        joined = gradient.new_empty(b, t, 3, h, heads.shape[-1])
        places = joined.permute(2, 0, 3, 1, 4)
        torch.mul(grad_q, scaling, out=places[0])
        torch.mul(grad_k, scaling, out=places[1])
        places[2].copy_(grad_v)
        return joined.view(b * t, -1)


class AfterAttention:
    """The rest of a block after its heads: output projection, norm, MLP, norm. It works row by row."""

    def __init__(self, module: nn.Module, spec: EncoderSpec, arithmetic: Arithmetic) -> None:
        names = spec.post_norm
        assert names is not None, "only post-norm families have this form"
        first, second = (module.get_submodule(name) for name in spec.norms)
        self._output = arithmetic.product(module, *spec.output)
        self._up, self._down = (arithmetic.product(module, name) for name in spec.mlp)
        self._activation = activation(module.get_submodule(names.activation), arithmetic.dtype)
        self._norm1: AddNorm | CombinedNorms = AddNorm(first, _dropout(module, names.output_dropout))
        self._norm2: AddNorm | CombinedNorms = AddNorm(second, _dropout(module, names.mlp_dropout))
        pieces = (self._output, self._norm1, self._up, self._activation, self._down, self._norm2)
        self.parameters: tuple[Tensor, ...] = tuple(p for piece in pieces for p in piece.parameters)

    @classmethod
    def combine(cls, parts: Sequence[AfterAttention], rows: ModelRows) -> AfterAttention:
        """Combine the parts of several models on one encoder; forward only."""
        one = copy.copy(parts[0])
        one._output = combine_layers([part._output for part in parts], rows)
        one._up = combine_layers([part._up for part in parts], rows)
        one._down = combine_layers([part._down for part in parts], rows)
        one._norm1 = CombinedNorms([part._norm1 for part in parts], rows)
        one._norm2 = CombinedNorms([part._norm2 for part in parts], rows)
        one.parameters = ()
        return one

    def forward(self, attended: Tensor, x: Tensor) -> tuple[Tensor, Any]:
        """Heads' outputs and the block's input, each ``(N, D)``, to the block's output."""
        projected, of_output = self._output.forward(attended)
        middle, of_norm1 = self._norm1.forward(projected, x)
        wide, of_up = self._up.forward(middle)
        active, of_activation = self._activation.forward(wide)
        thin, of_down = self._down.forward(active)
        output, of_norm2 = self._norm2.forward(thin, middle)
        return output, [of_output, of_norm1, of_up, of_activation, of_down, of_norm2]

    def backward(self, gradient: Tensor, saved: list[Any]) -> tuple[Tensor, Tensor, Gradients]:
        """Return gradients of the heads' outputs, of the block's input (residual only) and of the parameters."""
        grad_thin, grad_middle, g_norm2 = self._norm2.backward(gradient, saved.pop())
        grad_active, g_down = self._down.backward(grad_thin, saved.pop(), wants_x=True)
        assert grad_active is not None, "it was wanted"
        grad_wide, g_activation = self._activation.backward(grad_active, saved.pop(), wants_x=True)
        assert grad_wide is not None, "it was wanted"
        grad_through, g_up = self._up.backward(grad_wide, saved.pop(), wants_x=True)
        assert grad_through is not None, "it was wanted"
        grad_projected, grad_x, g_norm1 = self._norm1.backward(grad_through.add_(grad_middle), saved.pop())
        grad_attended, g_output = self._output.backward(grad_projected, saved.pop(), wants_x=True)
        assert grad_attended is not None, "it was wanted"
        return grad_attended, grad_x, [*g_output, *g_norm1, *g_up, *g_activation, *g_down, *g_norm2]


class Gelu:
    """The exact GELU, on any shape; it keeps its input."""

    parameters: tuple[Tensor, ...] = ()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the activation, and the input."""
        return nn.functional.gelu(x), x

    def backward(self, gradient: Tensor, saved: Tensor, *, wants_x: bool) -> tuple[Tensor | None, Gradients]:
        """Return the gradient of the input."""
        return torch.ops.aten.gelu_backward(gradient, saved), []


def activation(module: nn.Module, dtype: torch.dtype) -> Layer:
    """Return `Gelu` for the exact GELU, or a layer that calls the module."""
    from transformers.activations import GELUActivation

    exact = type(module) is GELUActivation and module.act is nn.functional.gelu
    return Gelu() if exact else Called([module], dtype)


def padding_row(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Return transformers' mask, bool or additive, ``(B, 1, Q, T)``, as one additive row, ``(B, 1, 1, T)``."""
    return None if mask is None else attention.as_added(mask[:, :, :1], dtype)


def attention_dropout(module: nn.Module, spec: EncoderSpec) -> nn.Dropout | None:
    """Return the dropout of a block's attention probabilities."""
    return None if spec.post_norm is None else _dropout(module, spec.post_norm.attention_dropout)


def _dropout(module: nn.Module, path: str | None) -> nn.Dropout | None:
    found = None if path is None else module.get_submodule(path)
    return found if isinstance(found, nn.Dropout) else None
