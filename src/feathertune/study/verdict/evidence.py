"""The facts that a verdict is based on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from feathertune.records import BaseRecord, DataRecord, PairRecord, RunRecord, SummaryRow
from feathertune.records.row_names import base_of_row, method_of_row, reference_of
from feathertune.tasks import Task

# In binary, 0.54 - 0.05 is above 0.49; different shares of N rows differ by at least 1 / N.
ROUNDING = 1e-9
# Differences with a lower p-value are clear.
CLEAR_P = 0.05
_NOT_TRAINED = ("majority", "foundation")
_COST_ORDER = ("baseline", "probe", "peft", "full")


@dataclass(frozen=True)
class Evidence:
    """The facts that a verdict is based on.

    Attributes:
        runs: All runs, including failed ones.
        margin: Largest drop in score that still counts as equally good, as a fraction (0.01 is one point).
        n_mislabelled: Number of likely mislabelled test rows (of labels, in a multi-label task).
        bases: The base models; in a study of several, each row has one.
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
        """Rows that can be recommended, cheapest first."""
        sizes = {base.name: base.n_parameters for base in self.bases}

        def cost(row: SummaryRow) -> tuple[int, int, int]:
            return sizes.get(base_of_row(row.method) or "", 0), _COST_ORDER.index(row.kind), row.trainable_parameters

        return sorted((row for row in self.summary if method_of_row(row.method) not in _NOT_TRAINED), key=cost)

    def row(self, method: str) -> SummaryRow | None:
        """Return the summary row with this name, or None."""
        return next((row for row in self.summary if row.method == method), None)

    def reference(self, row: SummaryRow) -> SummaryRow | None:
        """Return the row of full fine-tuning on the same base model, or None."""
        return self.row(reference_of(row.method))

    def complete(self, method: str) -> list[RunRecord]:
        """Return a method's complete runs."""
        return [run for run in self.runs if run.method == method and run.status == "complete"]
