"""Hold tensors that several models have in common once; they are matched by content, since PEFT changes names."""

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
    """Tensors of all models that share through this object, while they exist."""

    def __init__(self) -> None:
        self._known: weakref.WeakValueDictionary[Hashable, Tensor] = weakref.WeakValueDictionary()

    def share(self, model: nn.Module) -> int:
        """Replace a model's tensors with known equal ones; return the bytes of the rest. Do not train it afterwards."""
        own: dict[int, int] = {}
        for holder, name, tensor in _tensors(model):
            known = self._known.setdefault(_key(tensor), tensor)
            holder[name] = known
            if known is tensor:
                own[id(tensor)] = tensor.nbytes
        return sum(own.values())


def copy_on_shared_tensors(value: T, model: nn.Module, *, keep: Iterable[object] = ()) -> T:
    """Copy modules for another thread, sharing `model`'s tensors and `keep`; `value` must have no fast parts."""
    memo: dict[int, object] = {id(one): one for one in keep}
    for module in model.modules():
        for held in (*vars(module).values(), module._parameters, module._buffers):
            tensors = held.values() if isinstance(held, dict) else held if isinstance(held, list | tuple) else (held,)
            memo |= {id(tensor): tensor for tensor in tensors if isinstance(tensor, Tensor)}
    return copy.deepcopy(value, memo)


def _tensors(model: nn.Module) -> Iterator[tuple[dict[str, Tensor | None], str, Tensor]]:
    """Yield each tensor with the module dictionary that holds it and its name."""
    for module in model.modules():
        for holder in (module._parameters, module._buffers):
            for name, tensor in list(holder.items()):
                if tensor is not None and tensor.layout == torch.strided:
                    yield holder, name, tensor  # type: ignore[misc] # a dictionary of parameters takes only those


def _key(tensor: Tensor) -> Hashable:
    content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return type(tensor), tensor.dtype, tuple(tensor.shape), hashlib.sha256(content.data).digest()
