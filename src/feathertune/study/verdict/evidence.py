"""The facts that a verdict rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from feathertune.records import BaseRecord, DataRecord, PairRecord, RunRecord, SummaryRow
from feathertune.records.row_names import base_of_row, method_of_row, reference_of
from feathertune.tasks import Task

# In binary, 0.54 - 0.05 is above 0.49; shares that differ do so by 1 / N at least.
ROUNDING = 1e-9
# Differences with a lower p are clear.
CLEAR_P = 0.05
_NOT_TRAINED = ("majority", "foundation")
_COST_ORDER = ("baseline", "probe", "peft", "full")


@dataclass(frozen=True)
class Evidence:
    """The facts that a verdict rests on.

    Attributes:
        runs: All runs, failed ones included.
        margin: Largest loss of score that is still as good, as a fraction (0.01 is one point).
        n_mislabelled: Test rows whose label is likely wrong (labels of rows, if a text can have several).
        bases: The base models; the rows of a study of several have a base each.
    """

    task: Task
    data: DataRecord
    summary: Sequence[SummaryRow]
    runs: Sequence[RunRecord] = ()
    pairs: Sequence[PairRecord] = ()
    margin: float = 0.01
    n_mislabelled: int = 0
    bases: Sequence[BaseRecord] = ()

    @property
    def candidates(self) -> list[SummaryRow]:
        """Rows that can be recommended, the cheapest first."""
        sizes = {base.name: base.n_parameters for base in self.bases}

        def cost(row: SummaryRow) -> tuple[int, int, int]:
            return sizes.get(base_of_row(row.method) or "", 0), _COST_ORDER.index(row.kind), row.trainable_parameters

        return sorted((row for row in self.summary if method_of_row(row.method) not in _NOT_TRAINED), key=cost)

    def row(self, method: str) -> SummaryRow | None:
        """The summary row of this name."""
        return next((row for row in self.summary if row.method == method), None)

    def reference(self, row: SummaryRow) -> SummaryRow | None:
        """The row of full fine-tuning on the same base."""
        return self.row(reference_of(row.method))

    def complete(self, method: str) -> list[RunRecord]:
        """The complete runs of a method."""
        return [run for run in self.runs if run.method == method and run.status == "complete"]
