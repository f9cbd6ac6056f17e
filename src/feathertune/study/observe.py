"""Progress of a study, for a terminal, a tracker or nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from feathertune.records import RunRecord
from feathertune.study.run_spec import RunSpec


class Observer(Protocol):
    """Listens to a study. Work is counted in texts; training on one text counts as three forward passes.

    It hears of one run at a time: a run on a cluster is told as a whole when it has ended.
    """

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
        """Part of the running run's work is done; `text` describes its state, if that is known."""
        ...

    def skipped(self, work: float) -> None:
        """Part of the running run's work was done before, by a process that was stopped."""
        ...

    def measured(self, line: Mapping[str, Any]) -> None:
        """Numbers of the running run; ``event`` says which.

        ``step`` and ``epoch`` are lines of ``metrics.jsonl``. ``scores`` ends a training that is no run of a study: it
        holds the `Scores` of ``validation`` and ``test``.
        """
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

    def measured(self, line: Mapping[str, Any]) -> None:
        """Say nothing."""

    def said(self, text: str) -> None:
        """Say nothing."""

    def ended(self, record: RunRecord) -> None:
        """Say nothing."""


class Together:
    """Several observers as one; each is told everything, in their order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def stage(self, text: str) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.stage(text)

    def planned(self, work: dict[str, float], finished: list[RunRecord]) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.planned(work, finished)

    def started(self, spec: RunSpec) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.started(spec)

    def advanced(self, work: float, text: str = "") -> None:
        """Tell all."""
        for observer in self._observers:
            observer.advanced(work, text)

    def skipped(self, work: float) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.skipped(work)

    def measured(self, line: Mapping[str, Any]) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.measured(line)

    def said(self, text: str) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.said(text)

    def ended(self, record: RunRecord) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.ended(record)
