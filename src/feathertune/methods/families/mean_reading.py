"""Reading an encoder by the mean over a text's tokens, as sentence encoders are read, by one block more.

Its attention weighs all tokens equally, and its norms bring the mean to unit length. Query and key are zero, each a
factor of the other's gradient, so it stays a mean. Derivation: our own.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn

from feathertune.errors import ConfigError

if TYPE_CHECKING:
    from feathertune.encoders import LoadedEncoder

# The block adds its input at the first token to attention's output, which is this many times larger: a mean to within
# a thousandth.
_TIMES = 1_000.0


def read_the_mean(encoder: LoadedEncoder) -> None:
    """Append that block; layers up to the output layer start as the identity. ConfigError if it does not fit."""
    spec = encoder.spec
    if spec.post_norm is None or not spec.reads_first:
        raise ConfigError(
            f"Option 'read' of method 'full' is 'mean', but {spec.model_type} encoders have no blocks of BERT's form, "
            "to which one could be added that takes the mean for the head to read. Leave it out."
        )
    block = copy.deepcopy(encoder.blocks[-1])
    identity = torch.eye(encoder.hidden_size)
    attention_norm, last_norm = spec.norms
    weights = {name: torch.zeros_like(value) for name, value in block.state_dict().items()}
    weights[f"{spec.value[0]}.weight"] = identity
    weights[f"{spec.output[0]}.weight"] = _TIMES * identity
    weights[f"{attention_norm}.weight"] += 1.0
    weights[f"{last_norm}.weight"] += encoder.hidden_size**-0.5
    block.load_state_dict(weights)
    encoder.append_block(block)
    for layer in _between(encoder):
        layer.load_state_dict({"weight": identity, "bias": torch.zeros_like(layer.bias)})


def _between(encoder: LoadedEncoder) -> list[nn.Linear]:
    """Return the layers between the head's input and the output layer; they keep the width."""
    parts = [getattr(encoder.backbone, "pooler", None), *map(encoder.model.get_submodule, encoder.spec.head)]
    modules = [module for part in parts if part is not None for module in part.modules()]
    return [module for module in modules if isinstance(module, nn.Linear)][:-1]
