"""Names of a study's rows: the method, and the base if the study has several, such as ``lora:r=4@minilm``."""

from __future__ import annotations

_SEPARATOR = "@"
REFERENCE = "full"


def row_name(method: str, base: str | None) -> str:
    """Return the name of a method's row; without a base, the method's name."""
    return method if base is None else f"{method}{_SEPARATOR}{base}"


def method_of_row(row: str) -> str:
    """Return the method of a row, with its options."""
    return row.partition(_SEPARATOR)[0]


def base_of_row(row: str) -> str | None:
    """Return the base of a row; None in a study of one base, and for a baseline that reads no base."""
    return row.partition(_SEPARATOR)[2] or None


def reference_of(row: str) -> str:
    """Return the row of full fine-tuning on the same base, which the row is compared with."""
    return row_name(REFERENCE, base_of_row(row))
