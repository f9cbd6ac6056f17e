"""Export a bundle to run without feathertune, and check that it gives the same answers."""

from feathertune.export.check import DEFAULT_ROWS, Check, NumberParity, Parity
from feathertune.export.targets import TARGETS, Target, export_model

__all__ = ["DEFAULT_ROWS", "TARGETS", "Check", "NumberParity", "Parity", "Target", "export_model"]
