"""How a study tells what it is doing, without knowing whether a terminal, a file or nobody listens."""

from __future__ import annotations

from typing import Protocol

from feathertune.records import RunRecord
from feathertune.study.plan import RunSpec


class Observer(Protocol):
    """Listens to a study. Work is counted in texts; training on one text counts as three forward passes."""

    def stage(self, text: str) -> None:
        """Something begins that is not a run, such as reading the data."""
        ...

    def planned(self, work: dict[str, float], finished: list[RunRecord]) -> None:
        """All runs are known: work by run id, and the records of those that were finished before."""
        ...

    def started(self, spec: RunSpec) -> None:
        """A run begins."""
        ...

    def advanced(self, work: float, text: str = "") -> None:
        """Part of the running run's work is done; `text` says how it stands, where that is known."""
        ...

    def skipped(self, work: float) -> None:
        """Part of the running run's work was done before, by a process that was stopped."""
        ...

    def said(self, text: str) -> None:
        """Something a person should read afterwards, too."""
        ...

    def ended(self, record: RunRecord) -> None:
        """A run has ended, well or not."""
        ...


class Silent:
    """An observer that says nothing."""

    def stage(self, text: str) -> None:
        """Say nothing."""

    def planned(self, work: dict[str, float], finished: list[RunRecord]) -> None:
        """Say nothing."""

    def started(self, spec: RunSpec) -> None:
        """Say nothing."""

    def advanced(self, work: float, text: str = "") -> None:
        """Say nothing."""

    def skipped(self, work: float) -> None:
        """Say nothing."""

    def said(self, text: str) -> None:
        """Say nothing."""

    def ended(self, record: RunRecord) -> None:
        """Say nothing."""
