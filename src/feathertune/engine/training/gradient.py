"""The gradient of one optimizer step, pass by pass, in one process or several.

Losses are summed over a step and divided by its examples, so the split into passes and processes changes the result by
rounding only. If a pass does not fit the memory, all passes are halved from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from feathertune.engine.predict import Texts
from feathertune.engine.training.distributed import Group
from feathertune.errors import RunFailedError
from feathertune.runtime import Runtime, give_memory_back
from feathertune.tasks.losses import CROSS_ENTROPY, Objective

# Messages of torch's allocator for processors; for GPUs it has its own exception.
_NO_MEMORY = ("can't allocate memory", "not enough memory")


@dataclass(frozen=True)
class Labelled:
    """Encoded texts and their labels.

    Attributes:
        labels: Classes ``(N,)`` int64, flags of several labels ``(N, C)`` int8, or numbers ``(N,)`` float64.
        objective: The training loss.
    """

    texts: Texts
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
    """Add a step's gradient to the parameters.

    Args:
        model: In training mode, without gradients.
        trained: Its trained parameters.
        data: The examples.
        passes: Rows of each pass.
        halvings: How often each pass is halved already.
        runtime: Device and number format.
        group: The processes that share the step; gradients are summed over them.
        penalty: Returns a scalar that is added to the loss, once a step.

    Returns:
        The mean loss over the step's examples, and the halvings that it took.

    Raises:
        RunFailedError: If a single text does not fit the memory.
    """
    n_examples = sum(len(rows) for rows in passes)
    while True:
        pieces = [piece for rows in passes for piece in np.array_split(rows, min(len(rows), 2**halvings))]
        mine = [rows for piece in pieces if len(rows := group.share(piece))]
        try:
            loss = sum(_backward(model, data, rows, n_examples, runtime) for rows in mine)
            break
        except (MemoryError, RuntimeError) as error:
            if not _is_memory(error):
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


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error) for word in _NO_MEMORY)
