"""What a tracker is: a name, the packages that it needs, and how to open it; and the variables that some go by."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Point:
    """Numbers of one step; `time_s` is when they were known, in seconds since 1970."""

    step: int
    time_s: float
    values: Mapping[str, float]


class Session(Protocol):
    """A tracker that is open: one run after the other, each begun and ended. Anything may be raised.

    Attributes:
        place: Where it writes, for a person.
    """

    place: str

    def begin(self, run: str, settings: Mapping[str, str | int | float | bool]) -> None:
        """A run begins; a run of that name may have been begun before."""
        ...

    def log(self, points: Sequence[Point]) -> None:
        """Numbers of the run, in the order of their steps; steps may repeat."""
        ...

    def end(self, *, failed: bool) -> None:
        """The run has ended, and all is to be on disk."""
        ...


@dataclass(frozen=True)
class Tracker:
    """A program that shows how trainings go.

    Attributes:
        name: What is typed, and the extra that installs it.
        packages: Modules that have to be there.
        open: From its folder, which exists, and the name of the study. Here, and not before, packages are loaded.
    """

    name: str
    packages: tuple[str, ...]
    open: Callable[[Path, str], Session]


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set variables for a while, those alone that the user has not set: some packages can be told in no other way."""
    new = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)
