"""Progress of a study, for a terminal, a tracker or nobody."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from feathertune.records import RunRecord
from feathertune.study.run_spec import RunSpec


class Observer:
    """Listens to a study, one run at a time; the work of a text is one forward pass, of training on it three.

    This one does nothing.
    """

    def stage(self, text: str) -> None:
        """Something begins that is not a run, such as reading the data."""

    def planned(self, work: dict[str, float], finished: list[RunRecord]) -> None:
        """All runs are known: work by run id, and the records of those that were finished before."""

    def started(self, spec: RunSpec) -> None:
        """A run begins."""

    def advanced(self, work: float, text: str = "") -> None:
        """Part of the running run's work is done; `text` describes its state, if that is known."""

    def skipped(self, work: float) -> None:
        """Part of the running run's work was done before, by a process that was stopped."""

    def measured(self, line: Mapping[str, Any]) -> None:
        """Numbers of the running run: a line of ``metrics.jsonl``, or ``scores`` of a training outside a study."""

    def said(self, text: str) -> None:
        """Something a person should read afterwards, too."""

    def ended(self, record: RunRecord) -> None:
        """A run has ended, well or not."""


class Silent(Observer):
    """An observer that says nothing."""


class _Together:
    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def __getattr__(self, name: str) -> Callable[..., None]:
        def tell(*values: object) -> None:
            for observer in self._observers:
                getattr(observer, name)(*values)

        return tell


def together(*observers: Observer) -> Observer:
    """Return several observers as one; each is told everything, in their order."""
    return cast("Observer", _Together(observers))
