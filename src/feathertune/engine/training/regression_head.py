"""Heads for regression, trained on standard scores, with fp32 output in the labels' unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from peft.utils.other import ModulesToSaveWrapper
from torch import Tensor, nn
from torch.nn import functional

from feathertune.errors import EncoderError
from feathertune.tasks import TASKS

if TYPE_CHECKING:
    from feathertune.encoders import LoadedEncoder
    from feathertune.tasks.losses import Objective

_PROBLEM_TYPES = {task.problem_type for task in TASKS.values() if task.numbers}


def output_layer(encoder: LoadedEncoder) -> nn.Linear:
    """Return the linear layer that outputs the number; raise EncoderError unless the head ends in one with a bias."""
    found: list[nn.Linear] = []
    for name in encoder.head_modules:
        module = encoder.model.get_submodule(name)
        if isinstance(module, ModulesToSaveWrapper):  # use PEFT's trained copy
            module = module.modules_to_save[module.active_adapters[0]]
        found += [one for one in module.modules() if isinstance(one, nn.Linear) and one.out_features == 1]
    if len(found) != 1 or found[0].bias is None:
        raise EncoderError(
            f"The head of {encoder.id} ({encoder.spec.model_type}) does not end in one linear layer with a bias. "
            "Regression requires that layer, to convert the output to the labels' unit. "
            "Choose another base model, or train on classes with --set data.task=single_label."
        )
    return found[0]


def put_into_unit(encoder: LoadedEncoder, objective: Objective) -> None:
    """Rescale a regression model's last layer in place, from standard scores to the labels' unit."""
    if objective.standard is None:
        return
    mean, sd = objective.standard
    layer = output_layer(encoder)
    with torch.no_grad():
        layer.weight.mul_(sd)
        layer.bias.mul_(sd).add_(mean)


def is_regression(encoder: LoadedEncoder) -> bool:
    """Return True if the model predicts a number."""
    return getattr(encoder.model.config, "problem_type", None) in _PROBLEM_TYPES


def fp32_forward(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    """Return an output layer's forward ``(B, D)`` to ``(B, 1)`` in fp32: bf16 cannot hold 1987.4."""

    def forward(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return functional.linear(x.float(), layer.weight.float(), layer.bias.float())

    return forward
