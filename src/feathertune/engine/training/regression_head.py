"""The head of a model whose labels are numbers: its one output in the labels' unit, and not rounded.

A training gives standard scores (`feathertune.tasks.losses`). Scale and offset are then put into the weights of the
last layer, so that whatever loads the model, plain transformers among it, gets the unit. Not for classes, whose logits
have none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from peft.utils.other import ModulesToSaveWrapper
from torch import Tensor, nn
from torch.nn import functional

from feathertune.errors import EncoderError

if TYPE_CHECKING:
    from feathertune.encoders import LoadedEncoder
    from feathertune.tasks.losses import Objective


def output_layer(encoder: LoadedEncoder) -> nn.Linear:
    """The layer of the head whose output is the number.

    Args:
        encoder: With one output; as it was loaded, or as a method has prepared it.

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
    """Make a model that was trained on standard scores give numbers in the labels' unit; one of classes stays.

    Args:
        encoder: As a method has prepared it and a training has left it; its last layer is changed in place.
        objective: What was lowered.

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
    """Whether the label is a number."""
    return getattr(encoder.model.config, "problem_type", None) == "regression"


class Fp32Output:
    """The forward of an output layer in fp32, whatever the format of the products: bf16 has no room for 1987.4.

    Args:
        layer: Whose parameters are used as they are at each call.
    """

    def __init__(self, layer: nn.Linear) -> None:
        self._layer = layer

    def __call__(self, x: Tensor) -> Tensor:
        """Of what the layer reads, ``(B, D)``, the numbers ``(B, 1)`` in float32."""
        layer = self._layer
        with torch.autocast(x.device.type, enabled=False):
            return functional.linear(x.float(), layer.weight.float(), layer.bias.float())
