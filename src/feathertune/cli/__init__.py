"""The command line. Commands import what they need when they run, so ``feathertune --help`` loads no torch."""

from feathertune.cli.main import main

__all__ = ["main"]
