"""A bundle in another form, for whoever shall run it without feathertune, proven to give the same answers.

`TARGETS` lists the forms. Importing this loads no torch. Not for what `feathertune.bundle` holds already: an adapter in
PEFT's form needs no export.
"""

from feathertune.export.targets import DEFAULT_ROWS, TARGETS, Check, NumberParity, Parity, Target, export_model

__all__ = ["DEFAULT_ROWS", "TARGETS", "Check", "NumberParity", "Parity", "Target", "export_model"]
