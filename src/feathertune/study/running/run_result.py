"""Result of a run of any kind: probabilities, scores and measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feathertune.records import Scores, Seconds
from feathertune.study.running.workbench import Workbench
from feathertune.tasks import Task


@dataclass(frozen=True)
class Scored:
    """Scores on test and validation rows, if any, with thresholds ``(C,)`` fitted to the validation rows, if any."""

    thresholds: NDArray[np.float64] | None
    test: Scores | None
    validation: Scores | None

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """The scores in the format of a bundle's file."""
        both = (("test", self.test), ("validation", self.validation))
        return {name: found.model_dump() for name, found in both if found is not None}


@dataclass(frozen=True)
class RunResult:
    """Result of one run.

    Attributes:
        test: Probabilities for the test rows, ``(N, C)``; for numeric labels, predictions ``(N, 1)``.
        validation: Probabilities for the validation rows.
        adapter_bytes: Size of the weights to ship.
        peak_memory_bytes: Peak memory of work that an earlier run did for this one.
        training: Fields of `feathertune.records.RunRecord` that only trained runs have.
    """

    test: np.ndarray
    validation: np.ndarray
    scores: Scored
    seconds: Seconds
    trainable_parameters: int = 0
    total_parameters: int = 0
    adapter_bytes: int = 0
    peak_memory_bytes: int = 0
    hyperparameters: Mapping[str, object] = field(default_factory=dict)
    notes: Sequence[str] = ()
    training: Mapping[str, Any] = field(default_factory=dict)


def score_rows(task: Task, bench: Workbench, test: np.ndarray, validation: np.ndarray) -> Scored:
    """Fit thresholds to the validation rows, and score both splits with them."""
    validation_labels, test_labels = bench.splits["validation"].labels, bench.splits["test"].labels
    thresholds = task.fit_thresholds(validation_labels, validation)
    return Scored(
        thresholds,
        test=task.evaluate(test_labels, test, thresholds) if len(test_labels) else None,
        validation=task.evaluate(validation_labels, validation, thresholds) if len(validation_labels) else None,
    )
