"""The gradient of one optimizer step; its split into passes and processes changes it by rounding only."""

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

# Messages of torch's allocator for processors; for GPUs it has its own exception.
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
    """Add a step's gradient; return the mean loss over its examples, and `halvings`: passes are cut into 2^halvings.

    If a pass does not fit the memory, all are halved; RunFailedError if a single text does not fit.
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
                    "A single text does not fit the memory. Give a smaller --max-length, or --set engine.recompute=on; "
                    "of --long windows also fewer, such as --set data.max_windows=2."
                ) from error
        # Only here the exception is gone, and with it the frames that hold the pass's tensors.
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
