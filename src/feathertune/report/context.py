"""Task and data of a study, which its sentences mention."""

from __future__ import annotations

from dataclasses import dataclass

from feathertune.records import DataRecord, StudyRecord
from feathertune.tasks import Task, task_of_study
from feathertune.tasks.formats import ScoreFormat


@dataclass(frozen=True)
class Context:
    """Task and data of a study, which the sentences mention."""

    task: Task
    data: DataRecord

    @property
    def format(self) -> ScoreFormat:
        """Format of the primary metric."""
        return self.task.primary.format

    def score(self, value: float) -> str:
        """Return a score of the primary metric as text."""
        return self.format.score(value)

    def margin(self, value: float) -> str:
        """Return a difference without its sign, with its unit."""
        return self.format.within(value)

    def interval(self, low: float, high: float) -> str:
        """Return the 95% interval of a score: ``95% CI [83.1, 87.5]``."""
        ends = (self.score(end).removesuffix(self.format.suffix) for end in (low, high))
        return f"95% CI [{', '.join(ends)}]"

    def difference(self, value: float, low: float | None, high: float | None) -> str:
        """Return a difference with its unit and, if known, its 95% interval."""
        said = f"{self.format.difference(value)}{self.format.unit}"
        if low is None or high is None:
            return said
        return f"{said}, 95% CI [{self.format.difference(low)}, {self.format.difference(high)}]"


def context_of(study: StudyRecord) -> Context:
    """Return the context of a study's sentences."""
    return Context(task_of_study(study), study.data)
