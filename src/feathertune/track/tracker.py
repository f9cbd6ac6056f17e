"""Tracker interface: a name, the required packages, and a function that starts a run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Settings = Mapping[str, str | int | float | bool]


class TrackedRun(Protocol):
    """A run in a tracker, written to `place`; its methods may raise any error."""

    place: str

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log a step's values; steps are non-decreasing."""

    def finish(self, *, failed: bool) -> None:
        """End the run and write everything to disk."""


@dataclass(frozen=True)
class Tracker:
    """A tracker and the extra of the same name; `start` takes a folder, the names of study and run, and settings."""

    name: str
    packages: tuple[str, ...]
    start: Callable[[Path, str, str, Settings], TrackedRun]


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set environment variables during the block, except those that the user has set."""
    new = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)
