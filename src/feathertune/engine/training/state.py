"""The state of a training between two steps, as named tensors and JSON values."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from feathertune.errors import CheckpointError
from feathertune.records import Record, Scores


class Position(Record):
    """Progress of a training; `halvings` counts how often passes were halved for lack of memory.

    The seconds exclude the caller's time.
    """

    epochs_done: int = 0
    steps_done: int = 0
    steps_of_epoch: int = 0
    examples_seen: int = 0
    tokens_seen: int = 0
    halvings: int = 0
    epochs_without_gain: int = 0
    loss_sum: float = 0.0
    epoch_seconds: float = 0.0
    seconds: float = 0.0


class BestEpoch(Record):
    """The best epoch so far, with its validation scores."""

    epoch: int
    train_loss: float
    seconds: float
    validation: Scores | None


class StateValues(Record):
    """The JSON part of a state; `generators` holds the state of NumPy's and Python's global random generators."""

    position: Position
    generators: dict[str, Any]
    best: BestEpoch | None = None


@dataclass(frozen=True)
class State:
    """A snapshot of a training; `tensors`, by group and name, are valid until the next step."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    values: StateValues


def trained_by_name(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trained parameters, in the model's order."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def set_parameters(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Copy values into all trained parameters, by name."""
    with torch.no_grad():
        for name, parameter in trained_by_name(model).items():
            parameter.copy_(values[name])


def capture(
    model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
) -> tuple[dict[str, Mapping[str, Tensor]], dict[str, Any]]:
    """Return the groups ``parameters``, ``optimizer`` and ``random`` without copying, and the other generators."""
    of_torch = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        of_torch["cuda"] = torch.cuda.get_rng_state(device)
    of_numpy = np.random.get_state(legacy=False)  # noqa: NPY002 - sklearn and peft draw from the global state
    version, words, gauss = random.getstate()
    tensors: dict[str, Mapping[str, Tensor]] = {
        "parameters": trained_by_name(model),
        "optimizer": _optimizer_tensors(model, optimizer),
        "random": of_torch,
    }
    return tensors, {"numpy": _as_json(of_numpy), "python": [version, list(words), gauss]}


def restore(state: State, model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Restore what `capture` returned; raise CheckpointError, changing nothing, if the parameters differ."""
    _check_fits(state, trained_by_name(model))
    set_parameters(model, state.tensors["parameters"])
    _load_optimizer_tensors(model, optimizer, state.tensors["optimizer"])
    torch.set_rng_state(state.tensors["random"]["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state.tensors["random"]["cuda"], device)
    of_numpy = dict(state.values.generators["numpy"])
    if "key" in of_numpy["state"]:  # the Mersenne twister, NumPy's default global generator
        of_numpy["state"] = {**of_numpy["state"], "key": np.array(of_numpy["state"]["key"], dtype=np.uint32)}
    np.random.set_state(of_numpy)  # noqa: NPY002
    version, words, gauss = state.values.generators["python"]
    random.setstate((version, tuple(words), gauss))


def _check_fits(state: State, trained: Mapping[str, nn.Parameter]) -> None:
    saved = state.tensors["parameters"]
    other = {key.partition(":")[2] for key in state.tensors["optimizer"]} | state.tensors["best"].keys()
    for name in sorted(saved.keys() ^ trained.keys()) + sorted(other - trained.keys()):
        where = "is not trained here" if name not in trained else "is missing from the checkpoint"
        raise CheckpointError(
            f"The checkpoint is from a different model: parameter {name} {where}. Start without --resume."
        )
    for name, parameter in trained.items():
        if saved[name].shape != parameter.shape:
            raise CheckpointError(
                f"The checkpoint is from a different model: parameter {name} has shape {list(saved[name].shape)}, "
                f"expected {list(parameter.shape)}. Start without --resume."
            )


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's tensors as ``kind:parameter``, such as ``exp_avg:classifier.weight``."""
    names = _names(model, optimizer)
    entries = optimizer.state_dict()["state"].items()
    return {f"{key}:{names[number]}": value for number, entry in entries for key, value in entry.items()}


def _load_optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore copies of what `_optimizer_tensors` returned."""
    numbers = {name: number for number, name in enumerate(_names(model, optimizer))}
    entries: dict[int, dict[str, Tensor]] = {}
    for label, value in tensors.items():
        key, _, name = label.partition(":")
        entries.setdefault(numbers[name], {})[key] = value.clone()
    optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})


def _names(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Return parameter names in the optimizer's order."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def _as_json(value: Any) -> Any:  # noqa: ANN401 - dicts, arrays and numbers
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
