"""Dropout of a frozen encoder, and turning it off.

Dropout keeps weights that are trained from leaning on one another; a frozen encoder's weights are not trained, and what
its noise costs is drawn anew for every activation: on a processor more than the matrix products. Adapters have a
dropout of their own (``lora_dropout``), and the head keeps its. Three seeds with and without: docs/engine.md.
"""

from __future__ import annotations

from torch import nn

# Some modules keep a rate as a number and call the function (ModernBERT's attention).
_NUMBERS = ("attention_dropout", "dropout_prob")


def turn_off_dropout(model: nn.Module) -> None:
    """Set every dropout that the model has now to nothing; what is added to it later keeps its own."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in _NUMBERS:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
