"""Compute the gradient of one optimizer step. Splitting it into passes and processes changes only the rounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from feathertune.data.tokens.encode import EncodedTexts
from feathertune.engine.training.distributed import Group
from feathertune.errors import RunFailedError
from feathertune.runtime import Runtime, give_memory_back
from feathertune.tasks.losses import CROSS_ENTROPY, Objective

# Out-of-memory messages of torch's CPU allocator; GPUs raise a dedicated exception.
_NO_MEMORY = ("can't allocate memory", "not enough memory")


@dataclass(frozen=True)
class Labelled:
    """Encoded texts and labels: classes ``(N,)`` int64, flags ``(N, C)`` int8, or numbers ``(N,)`` float64."""

    texts: EncodedTexts
    labels: np.ndarray
    objective: Objective = CROSS_ENTROPY


def add_gradient(
    model: nn.Module,
    trained: Sequence[nn.Parameter],
    data: Labelled,
    passes: list[np.ndarray],
    *,
    halvings: int,
    runtime: Runtime,
    group: Group,
    penalty: Callable[[], Tensor] | None = None,
) -> tuple[float, int]:
    """Add a step's gradient; return the mean loss over its examples, and the new `halvings`.

    Each pass is split into 2^halvings parts. If a pass runs out of memory, all passes are halved.

    Raises:
        RunFailedError: If a single text runs out of memory.
    """
    n_examples = sum(len(rows) for rows in passes)
    while True:
        pieces = [piece for rows in passes for piece in np.array_split(rows, min(len(rows), 2**halvings))]
        mine = [rows for piece in pieces if len(rows := group.share(piece))]
        try:
            loss = sum(_backward(model, data, rows, n_examples, runtime) for rows in mine)
            break
        except (MemoryError, RuntimeError) as error:
            is_memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
            if not is_memory and not any(word in str(error) for word in _NO_MEMORY):
                raise
            if all(len(rows) == 1 for rows in mine):
                raise RunFailedError(
                    "A single text does not fit in memory. Lower --max-length or pass --set engine.recompute=on. "
                    "With --long windows, you can also use fewer windows: --set data.max_windows=2."
                ) from error
        # Not inside `except`: the exception's frames would keep the pass's tensors alive.
        halvings += 1
        model.zero_grad(set_to_none=True)
        give_memory_back()
    if penalty is not None and group.leads:
        added = penalty()
        added.backward()  # type: ignore[no-untyped-call]
        loss += float(added.detach())
    group.sum_gradients(trained)
    return float(group.sum(np.array([loss]))[0]), halvings


def _backward(model: nn.Module, data: Labelled, rows: np.ndarray, n_examples: int, runtime: Runtime) -> float:
    """Add one pass's share of the step's gradient; return its share of the step's loss."""
    batch = data.texts.collate(rows, runtime.device)
    labels = torch.from_numpy(data.labels[rows]).to(runtime.device)
    with runtime.autocast():
        logits = model(**batch).logits
    loss = data.objective.loss(data.texts.pool(rows, logits.float()), labels) / n_examples
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())
