"""How many operations a way to train really does: the numerator of its share of the machine's peak.

A multiplication with its addition counts as two. Counted are the matrix products of the blocks, over all positions that
were really computed, padding included; embeddings, norms, softmax, activations, pooler, head and optimizer are not. Per
block, for B texts padded to T, n = B T, hidden size d, MLP width f:

| | operations |
|---|---|
| linear layers, forward | ``2 n (4 d^2 + 2 d f)`` =: lin |
| attention, forward | ``4 B T^2 d`` =: att |
| gradients of inputs | ``lin + 2 att``; in the lowest block of LoRA ``- 6 n d^2``, since nothing below wants one |
| gradients of weights, where all are trained | ``lin`` |
| LoRA of rank r beside a layer (I, O) | ``6 n r (I + O)``; ``- 2 n r I`` for query, key, value of that lowest block |

The last block for one query (`feathertune.engine.kernels.last_layer`), per text ``one = 8 d^2 + 4 d f``:

| | keys and values formed | not formed, H heads |
|---|---|---|
| forward | ``4 n d^2 + 4 n d + B (one - 4 d^2)`` | ``4 n H d + B one`` |
| gradients of inputs | ``4 n d^2 + 8 n d + B (one - 4 d^2)`` | ``8 n H d + B one`` |
| gradients of weights | ``4 n d^2 + B (one - 4 d^2)`` | ``B one`` |

Not counted: what fused attention computes twice, padding of keys inside of feathertune's attention, the zeros of LoRA
factors that are joined, and LoRA's products in a last block for one query (below a tenth of a percent).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

LastBlock = Literal["whole", "keys", "one query"]


@dataclass(frozen=True)
class Sizes:
    """Of an encoder: d, f, H, and the number of its blocks."""

    hidden: int
    mlp: int
    n_heads: int
    n_blocks: int

    @classmethod
    def of(cls, config: Any) -> Sizes:
        """Read a configuration of transformers."""
        return cls(config.hidden_size, config.intermediate_size, config.num_attention_heads, config.num_hidden_layers)


@dataclass(frozen=True)
class Work:
    """What is done in a training step.

    Attributes:
        trains_all: Every weight, embeddings included; else LoRA.
        rank: LoRA's r.
        adapted: ``(I, O)`` of each layer of a block that LoRA stands beside.
        adapted_inputs: The same for those among query, key and value.
        first_trained: Blocks below it run forward only.
        first_run: Blocks below it do not run in a step, their output is kept.
        last_block: The form of the last block.
    """

    trains_all: bool
    rank: int = 0
    adapted: tuple[tuple[int, int], ...] = ()
    adapted_inputs: tuple[tuple[int, int], ...] = ()
    first_trained: int = 0
    first_run: int = 0
    last_block: LastBlock = "whole"


def step_operations(shapes: Iterable[tuple[int, int]], sizes: Sizes, work: Work) -> float:
    """Of training passes.

    Args:
        shapes: (B, T) of each pass.
        sizes: Of the encoder.
        work: What is done.
    """
    return float(sum(_pass(b, t, sizes, work) for b, t in shapes))


def prefix_operations(shapes: Iterable[tuple[int, int]], sizes: Sizes, work: Work) -> float:
    """Of forward passes through the blocks whose output is kept."""
    return float(sum(work.first_run * (_linear(b * t, sizes) + _attention(b, t, sizes)) for b, t in shapes))


def _pass(b: int, t: int, sizes: Sizes, work: Work) -> int:
    last = sizes.n_blocks - 1
    total = 0
    for block in range(work.first_run, sizes.n_blocks):
        form = work.last_block if block == last else "whole"
        forward, inputs, weights = _block(b, t, sizes, form)
        total += forward
        if block < work.first_trained:
            continue
        total += inputs + (weights if work.trains_all else 0)
        if form == "whole" and not work.trains_all:
            total += 6 * b * t * work.rank * sum(i + o for i, o in work.adapted)
        if block == work.first_trained and not work.trains_all:
            total -= _not_wanted(b * t, sizes, work) if form == "whole" else 0
    return total


def _block(b: int, t: int, sizes: Sizes, form: LastBlock) -> tuple[int, int, int]:
    """Forward, gradients of inputs, gradients of weights."""
    n, d = b * t, sizes.hidden
    if form == "whole":
        linear, attention = _linear(n, sizes), _attention(b, t, sizes)
        return linear + attention, linear + 2 * attention, linear
    one = b * (8 * d * d + 4 * d * sizes.mlp)
    if form == "one query":
        mixed = 4 * n * sizes.n_heads * d
        return mixed + one, 2 * mixed + one, one
    formed = 4 * n * d * d + one - 4 * b * d * d
    return formed + 4 * n * d, formed + 8 * n * d, formed


def _not_wanted(n: int, sizes: Sizes, work: Work) -> int:
    """Nothing below is trained, so the gradient of the block's input ends at query, key and value."""
    return 6 * n * sizes.hidden**2 + 2 * n * work.rank * sum(i for i, _ in work.adapted_inputs)


def _linear(n: int, sizes: Sizes) -> int:
    return 2 * n * (4 * sizes.hidden**2 + 2 * sizes.hidden * sizes.mlp)


def _attention(b: int, t: int, sizes: Sizes) -> int:
    return 4 * b * t * t * sizes.hidden
