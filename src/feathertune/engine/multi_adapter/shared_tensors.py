"""Tensors that several models have in common, held once: models on one encoder cost little more than what differs.

Which tensors are equal is told by their content, not by their names, which PEFT changes: so a method that leaves a
weight as it was shares it, whatever else it does to the layer. Not for models that are trained: a step of one would
change all.
"""

from __future__ import annotations

import copy
import hashlib
import weakref
from collections.abc import Hashable, Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


class SharedTensors:
    """The tensors of all models that were shared here and still exist."""

    def __init__(self) -> None:
        self._known: weakref.WeakValueDictionary[Hashable, Tensor] = weakref.WeakValueDictionary()

    def share(self, model: nn.Module) -> int:
        """Put tensors that are known in the place of a model's equal ones, and get to know the others.

        Args:
            model: Frozen from now on; as it was loaded, on the CPU.

        Returns:
            Bytes of the tensors that no model had before.
        """
        own: dict[int, int] = {}
        for holder, name, tensor in _tensors(model):
            known = self._known.setdefault(_key(tensor), tensor)
            holder[name] = known
            if known is tensor:
                own[id(tensor)] = tensor.nbytes
        return sum(own.values())


def twin(value: T, *, of: nn.Module, keep: Iterable[object] = ()) -> T:
    """A copy on the very same tensors: for another thread, since a forward pass may change what modules hold.

    Args:
        value: Whatever holds modules, such as a dataclass; without fast parts (`feathertune.engine.fast_path`).
        of: The module whose tensors are held by both.
        keep: Objects that are not copied either.
    """
    memo: dict[int, object] = {id(one): one for one in keep}
    for module in of.modules():
        for held in (*vars(module).values(), module._parameters, module._buffers):
            tensors = held.values() if isinstance(held, dict) else held if isinstance(held, list | tuple) else (held,)
            memo |= {id(tensor): tensor for tensor in tensors if isinstance(tensor, Tensor)}
    return copy.deepcopy(value, memo)


def _tensors(model: nn.Module) -> Iterator[tuple[dict[str, Tensor | None], str, Tensor]]:
    """Each tensor with the dictionary of its module and its name there."""
    for module in model.modules():
        for holder in (module._parameters, module._buffers):
            for name, tensor in list(holder.items()):
                if tensor is not None and tensor.layout == torch.strided:
                    yield holder, name, tensor  # type: ignore[misc] # a dictionary of parameters takes only those


def _key(tensor: Tensor) -> Hashable:
    content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return type(tensor), tensor.dtype, tuple(tensor.shape), hashlib.sha256(content.data).digest()
