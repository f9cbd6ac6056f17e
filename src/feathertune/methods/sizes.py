"""Count the parameters that a method would train, and find options for a parameter budget."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from feathertune.errors import ConfigError
from feathertune.methods.base import Job, Method, Options
from feathertune.methods.targets import TargetedOptions, shapes_of, target_names

if TYPE_CHECKING:
    from torch import nn

    from feathertune.encoders import LoadedEncoder


def planned(
    method: Method, options: Options, encoder: LoadedEncoder, *, max_length: int = 0
) -> tuple[LoadedEncoder, nn.Module]:
    """Return a copy of the encoder and the model that the method prepares from it; ConfigError if it does not fit.

    Both are on torch's ``meta`` device, or on the CPU if the method reads weights.
    """
    import torch

    from feathertune.runtime import GLOBAL_STATE

    job = Job(seed=0, max_length=max_length)
    with GLOBAL_STATE, torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                bare = _copy(encoder, "meta")
                return bare, method.prepare(bare, options, job)
        except (NotImplementedError, RuntimeError):  # the method reads weights
            real = _copy(encoder, "cpu")
            return real, method.prepare(real, options, job)


def _copy(encoder: LoadedEncoder, device: str) -> LoadedEncoder:
    return dataclasses.replace(encoder, model=copy.deepcopy(encoder.model).to(device))


def n_trained(method: Method, options: Options, encoder: LoadedEncoder, *, max_length: int = 0) -> int:
    """Return the number of parameters that the method would train, including the head."""
    _, model = planned(method, options, encoder, max_length=max_length)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def n_head(encoder: LoadedEncoder) -> int:
    """Return the number of parameters in the head, which every method trains."""
    heads = tuple(f"{name}." for name in encoder.head_modules)
    return sum(p.numel() for name, p in encoder.model.named_parameters() if name.startswith(heads))


def matched(method: Method, options: Options, encoder: LoadedEncoder, budget: int, *, max_length: int = 0) -> Options:
    """Return the options nearest to a parameter budget, excluding the head; ConfigError if no size works."""
    if method.size is None:
        return options
    head, option = n_head(encoder), method.size.option
    names = target_names(encoder, options) if isinstance(options, TargetedOptions) else list(encoder.linear_names())
    values = list(method.size.values(shapes_of(encoder, names)))

    def sized(value: Any) -> Options:  # noqa: ANN401 - any option value
        return method.options.model_validate({**method.given(options), option: value})

    def trained(value: Any) -> int:  # noqa: ANN401
        return n_trained(method, sized(value), encoder, max_length=max_length) - head

    nearest_value = _nearest(values, trained, budget)
    if nearest_value is None:
        raise ConfigError(f"Method '{method.name}' cannot be prepared on {encoder.id} with any {option}.")
    return sized(nearest_value)


def _nearest(values: Sequence[Any], trained: Callable[[Any], int], budget: int) -> Any:  # noqa: ANN401
    """Return the value nearest to the budget, or ``None`` if none works; counts are monotonic along the values."""
    counts: dict[int, int] = {}

    def count(index: int) -> int | None:
        if index not in counts:
            try:
                counts[index] = trained(values[index])
            except (ConfigError, ValueError):  # this encoder does not allow the size
                return None
        return counts[index]

    first, last = 0, len(values) - 1
    while last > 0 and count(last) is None:
        last -= 1
    while first < last and count(first) is None:
        first += 1
    if count(first) is None or count(last) is None:
        return None
    rises = (count(last) or 0) >= (count(first) or 0)
    while last - first > 1:
        middle = (first + last) // 2
        found = count(middle)
        if found is None or (found < budget) == rises:
            first = middle
        else:
            last = middle
    index = min(counts, key=lambda i: (abs(counts[i] - budget), counts[i]))
    return values[index]
