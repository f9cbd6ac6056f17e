"""Count the operations that training really performs: the numerator of its share of the machine's peak.

A multiplication with its addition counts as two operations. Only matrix products in the blocks count, over all
positions actually computed, including padding if it is computed; embeddings, norms, softmax, activations, pooler, head
and optimizer do not count. Per block, for B texts padded to T, n of the B T rows passed through linear layers, hidden
size d, H heads of size h with a = H h, and W weights of linear layers, of which Q produce queries, and K keys and
values:

| | operations |
|---|---|
| linear layers, forward | ``2 n W`` =: lin |
| attention, forward | ``4 B T^2 a`` =: att |
| gradients of inputs | ``lin + 2 att``; in LoRA's lowest block ``- 2 n (Q + K)``, as nothing below needs a gradient |
| gradients of weights, if all are trained | ``lin`` |
| LoRA of rank r on a layer (I, O) | ``6 n r (I + O)``; ``- 2 n r I`` for query, key, value of that lowest block |

The last block for one query (`feathertune.engine.kernels.last_layer`), per text ``one = 2 (W - K)``; if keys are not
formed, ``one = 2 W``:

| | keys and values formed | not formed, H heads |
|---|---|---|
| forward | ``2 n K + 4 n a + B one`` | ``4 n H d + B one`` |
| gradients of inputs | ``2 n K + 8 n a + B one`` | ``8 n H d + B one`` |
| gradients of weights | ``2 n K + B one`` | ``B one`` |

Not counted: recomputation in fused attention, padding of keys inside feathertune's attention, zeros in joined LoRA
factors, and LoRA's products in a last block for one query (less than 0.1%).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

LastBlock = Literal["whole", "keys", "one query"]
# B, T and n.
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Sizes:
    """Sizes of an encoder: d, a, H, W, Q, K, and the number of blocks."""

    hidden: int
    heads: int
    n_heads: int
    weights: int
    queries: int
    keys_values: int
    n_blocks: int

    @classmethod
    def of(cls, encoder: Any) -> Sizes:
        """Return the sizes of a plain or prepared encoder; a joint layer for queries, keys and values counts as K."""
        spec, config, block = encoder.spec, encoder.model.config, encoder.blocks[0]
        start = f"{spec.blocks}.0."
        names = [name.removeprefix(start) for name in encoder.linears if name.startswith(start)]
        weights = {name: block.get_submodule(name).weight for name in names}
        n_heads = config.num_attention_heads
        heads = getattr(config, "head_dim", None) or config.hidden_size // n_heads
        queries = [name for name in spec.query if name in weights and name not in spec.key]

        def size(wanted: Iterable[str]) -> int:
            return sum(weights[name].numel() for name in wanted)

        keys_values = {*spec.key, *spec.value} & weights.keys()
        return cls(
            config.hidden_size,
            heads * n_heads,
            n_heads,
            size(weights),
            size(queries),
            size(keys_values),
            len(encoder.blocks),
        )


@dataclass(frozen=True)
class Work:
    """Work of a training step.

    Attributes:
        trains_all: True if every weight is trained, including embeddings; False for LoRA.
        rank: LoRA's r.
        adapted: ``(I, O)`` of each layer in a block with LoRA.
        adapted_inputs: The same for adapted query, key and value layers.
        first_trained: First trained block; blocks below it run forward only.
        first_run: First block that runs in a step; the output of blocks below it is cached.
        last_block: Form of the last block.
    """

    trains_all: bool
    rank: int = 0
    adapted: tuple[tuple[int, int], ...] = ()
    adapted_inputs: tuple[tuple[int, int], ...] = ()
    first_trained: int = 0
    first_run: int = 0
    last_block: LastBlock = "whole"


def step_operations(shapes: Iterable[Shape], sizes: Sizes, work: Work) -> float:
    """Return the operations of training passes.

    Args:
        shapes: Shape of each pass.
        sizes: Sizes of the encoder.
        work: Work of a training step.
    """
    return float(sum(_pass(shape, sizes, work) for shape in shapes))


def prefix_operations(shapes: Iterable[Shape], sizes: Sizes, work: Work) -> float:
    """Return the operations of forward passes through the blocks with cached output."""
    return float(sum(work.first_run * (_linear(n, sizes) + _attention(b, t, sizes)) for b, t, n in shapes))


def _pass(shape: Shape, sizes: Sizes, work: Work) -> int:
    n = shape[2]
    last = sizes.n_blocks - 1
    total = 0
    for block in range(work.first_run, sizes.n_blocks):
        form = work.last_block if block == last else "whole"
        forward, inputs, weights = _block(shape, sizes, form)
        total += forward
        if block < work.first_trained:
            continue
        total += inputs + (weights if work.trains_all else 0)
        if form == "whole" and not work.trains_all:
            total += 6 * n * work.rank * sum(i + o for i, o in work.adapted)
        if block == work.first_trained and not work.trains_all:
            total -= _not_wanted(n, sizes, work) if form == "whole" else 0
    return total


def _block(shape: Shape, sizes: Sizes, form: LastBlock) -> tuple[int, int, int]:
    """Return the operations of a block: forward, gradients of inputs, gradients of weights."""
    (b, t, n), d = shape, sizes.hidden
    if form == "whole":
        linear, attention = _linear(n, sizes), _attention(b, t, sizes)
        return linear + attention, linear + 2 * attention, linear
    if form == "one query":
        one, mixed = 2 * b * sizes.weights, 4 * b * t * sizes.n_heads * d
        return mixed + one, 2 * mixed + one, one
    formed = 2 * b * t * sizes.keys_values + 2 * b * (sizes.weights - sizes.keys_values)
    return formed + 4 * b * t * sizes.heads, formed + 8 * b * t * sizes.heads, formed


def _not_wanted(n: int, sizes: Sizes, work: Work) -> int:
    """Return the operations saved in the lowest trained block, whose input needs no gradient."""
    return 2 * n * (sizes.queries + sizes.keys_values) + 2 * n * work.rank * sum(i for i, _ in work.adapted_inputs)


def _linear(n: int, sizes: Sizes) -> int:
    return 2 * n * sizes.weights


def _attention(b: int, t: int, sizes: Sizes) -> int:
    return 4 * b * t * t * sizes.heads
