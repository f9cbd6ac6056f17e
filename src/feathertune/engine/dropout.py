"""Turn off the dropout of a frozen encoder.

Dropout regularises weights that are trained; a frozen encoder's are not, and drawing its masks costs more than the
matrix products on a processor. Adapters and the head keep their own dropout. Three seeds with and without:
docs/engine.md.
"""

from __future__ import annotations

from torch import nn

# Some modules keep a rate as a number and call the function (ModernBERT's attention).
_NUMBERS = ("attention_dropout", "dropout_prob")


def turn_off_dropout(model: nn.Module) -> None:
    """Set every dropout that the model has now to 0; what is added later keeps its own."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in _NUMBERS:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
