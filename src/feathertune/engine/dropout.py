"""Turn off the dropout of a frozen encoder: it regularises nothing, and its masks cost more than the products."""

from __future__ import annotations

from torch import nn

# Some modules keep a rate as a number and call the function (ModernBERT's attention).
_NUMBERS = ("attention_dropout", "dropout_prob")


def turn_off_dropout(model: nn.Module) -> None:
    """Set every dropout that the model has now to 0; dropout added later keeps its rate."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in _NUMBERS:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
