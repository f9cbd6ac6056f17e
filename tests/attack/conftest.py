"""The tiny encoder and the data of the tests of commands."""

from e2e.conftest import data, encoder

__all__ = ["data", "encoder"]
