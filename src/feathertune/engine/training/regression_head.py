"""The head of a regression model: its one output in the labels' unit, and not rounded.

A training gives standard scores (`feathertune.tasks.losses`). Scale and offset are then put into the last layer's
weights, so that the unit is there for any program that loads the model.
"""

from __future__ import annotations

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
    """Return the head's layer whose output is the number, as it was loaded or as a method has prepared it.

    Raises:
        EncoderError: If the head does not end in a linear layer with an offset.
    """
    found: list[nn.Linear] = []
    for name in encoder.head_modules:
        module = encoder.model.get_submodule(name)
        if isinstance(module, ModulesToSaveWrapper):  # the copy of PEFT's that is trained
            module = module.modules_to_save[module.active_adapters[0]]
        found += [one for one in module.modules() if isinstance(one, nn.Linear) and one.out_features == 1]
    if len(found) != 1 or found[0].bias is None:
        raise EncoderError(
            f"The head of {encoder.id} ({encoder.spec.model_type}) does not end in one linear layer with an offset, "
            "which could take the unit of the labels. Expected such a head where the label is a number; labels that "
            "are classes can be trained on (data.task=single_label)."
        )
    return found[0]


def put_into_unit(encoder: LoadedEncoder, objective: Objective) -> None:
    """Rescale a regression model's last layer in place, after a training on standard scores, to the labels' unit.

    Raises:
        EncoderError: As `output_layer`.
    """
    if objective.standard is None:
        return
    mean, sd = objective.standard
    layer = output_layer(encoder)
    with torch.no_grad():
        layer.weight.mul_(sd)
        layer.bias.mul_(sd).add_(mean)


def is_regression(encoder: LoadedEncoder) -> bool:
    """Return whether the label is a number."""
    return getattr(encoder.model.config, "problem_type", None) in _PROBLEM_TYPES


class Fp32Output:
    """The forward of an output layer in fp32, for any format of the products: bf16 cannot hold 1987.4."""

    def __init__(self, layer: nn.Linear) -> None:
        self._layer = layer

    def __call__(self, x: Tensor) -> Tensor:
        """``(B, D)`` to ``(B, 1)`` float32."""
        layer = self._layer
        with torch.autocast(x.device.type, enabled=False):
            return functional.linear(x.float(), layer.weight.float(), layer.bias.float())
