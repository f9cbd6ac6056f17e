"""Report a study's progress to a terminal or a tracker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from feathertune.records import RunRecord
from feathertune.study.run_spec import RunSpec


class Observer:
    """Base class for progress callbacks; its methods do nothing.

    Work is counted in forward passes of one text; a training step on a text counts as three.
    """

    def stage(self, text: str) -> None:
        """Handle the start of a stage other than a run, such as reading the data."""

    def planned(self, work: dict[str, float], finished: list[RunRecord]) -> None:
        """Handle the complete plan: work by run id, and the records of runs finished earlier."""

    def started(self, spec: RunSpec) -> None:
        """Handle the start of a run."""

    def advanced(self, work: float, text: str = "") -> None:
        """Handle finished work of the current run; `text` describes its state, if known."""

    def skipped(self, work: float) -> None:
        """Handle work of the current run that an interrupted process or another run had already done."""

    def measured(self, line: Mapping[str, Any]) -> None:
        """Handle numbers of the current run: a line of ``metrics.jsonl``, or ``scores`` of a single training."""

    def said(self, text: str) -> None:
        """Handle a message that should stay visible after the run."""

    def ended(self, record: RunRecord) -> None:
        """Handle the end of a run, successful or not."""


class Silent(Observer):
    """An observer that reports nothing."""


class _Together:
    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def __getattr__(self, name: str) -> Callable[..., None]:
        def tell(*values: object) -> None:
            for observer in self._observers:
                getattr(observer, name)(*values)

        return tell


def together(*observers: Observer) -> Observer:
    """Combine several observers into one that forwards every call to each, in order."""
    return cast("Observer", _Together(observers))
