"""The interface of a tracker: a name, the packages that it needs, and a function that starts a run in it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Settings = Mapping[str, str | int | float | bool]


class TrackedRun(Protocol):
    """A run in a tracker. Any error may be raised; `place` says where it is written."""

    place: str

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers of a step; steps rise, and may repeat."""

    def finish(self, *, failed: bool) -> None:
        """End the run and write everything to disk."""


@dataclass(frozen=True)
class Tracker:
    """A tracker, and the extra of its name; `start` takes its folder, the names of study and run, and the settings."""

    name: str
    packages: tuple[str, ...]
    start: Callable[[Path, str, str, Settings], TrackedRun]


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set variables during the block, except those that the user has set: some packages have no other interface."""
    new = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)
