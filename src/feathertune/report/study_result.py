"""The result of a study in Python: its record, with tables, predictions and a chart for a notebook."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feathertune.errors import DataError, MissingExtraError
from feathertune.records import PREDICTIONS_FILE, TEST_FILE, RunRecord, StudyRecord, SummaryRow, load_study
from feathertune.report import side_files
from feathertune.report.content import interval_charts
from feathertune.report.drawing.standalone import chart_style, standalone
from feathertune.report.page import render_part
from feathertune.report.panels.curves import at_most_rows
from feathertune.report.rows import method_rows
from feathertune.report.tables import caption, table_cells
from feathertune.report.wording import caveat_texts, verdict_text
from feathertune.tasks import task_of_study

if TYPE_CHECKING:
    from pandas import DataFrame

# A notebook has its own switch between light and dark, which a picture does not see: this one is always light.
_LIGHT = ":root {{ {} background: var(--card); }}"


@dataclass(frozen=True)
class Chart:
    """A chart as SVG; a notebook shows it inline."""

    svg: str = field(repr=False)

    def _repr_svg_(self) -> str:
        return self.svg


@dataclass(frozen=True, repr=False)
class Study:
    """Result of a study; a notebook shows its table, its verdict and its caveats.

    All attributes of the record are attributes of the study too, such as ``study.verdict`` and ``study.runs``.

    Attributes:
        record: The record, as in ``study.json``.
        folder: The study folder.
    """

    record: StudyRecord
    folder: Path

    @classmethod
    def load(cls, folder: str | Path) -> Study:
        """Open a study folder, such as the ``--out`` of `feathertune compare`; raise a `DataError` for any other."""
        return cls(load_study(Path(folder)), Path(folder))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any field or method of the record
        if name.startswith("_") or name in ("record", "folder"):  # a copy or a pickle asks before it has a record
            raise AttributeError(f"'Study' object has no attribute '{name}'")
        return getattr(self.record, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *StudyRecord.model_fields})

    def __repr__(self) -> str:
        methods = len({row.method for row in self.record.summary})
        return f"<Study of {methods} methods on {self.record.data.source}, {self.record.status}: {self.folder}>"

    def _repr_html_(self) -> str:
        shown = at_most_rows(self.record)
        heads, *rows = table_cells(shown)
        chosen = [row.method == shown.verdict.recommended for row in shown.summary]
        return render_part(
            "notebook.html",
            heads=heads,
            rows=list(zip(chosen, rows, strict=True)),
            caption=caption(shown),
            verdict=self.verdict_text,
            caveats=caveat_texts(shown),
        )

    @property
    def verdict_text(self) -> str:
        """The verdict in a few sentences."""
        return verdict_text(self.record)

    def plot(self) -> Chart:
        """Draw each method's score with its 95% interval; raise a `DataError` if no run is complete."""
        shown, task = at_most_rows(self.record), task_of_study(self.record)
        done = Study(shown, self.folder)._complete()
        wide, _ = interval_charts(task, method_rows(task, shown, done))
        return Chart(standalone(wide, chart_style(light=_LIGHT)))

    def to_frame(self) -> DataFrame:
        """Return the summary as a pandas frame: the fields of `SummaryRow` as columns, unknown values as NaN."""
        rows = [row.model_dump() for row in self.record.summary]
        frame = _pandas("study.to_frame()").DataFrame(rows, columns=list(SummaryRow.model_fields))
        unknown = [name for name in frame if frame[name].isna().any()]  # in numbers only; else they are objects
        return frame.astype(dict.fromkeys(unknown, "float64"))

    def predictions(self, *, probabilities: bool = False) -> DataFrame:
        """Return the predictions on the test rows as a pandas frame: `row`, `text`, `label`, and one column per run.

        A run's column has its id, such as ``lora-s0`` for seed 0 of `lora`. Pairs of texts also have `text_pair`. Texts
        are truncated to 2,000 characters.

        Args:
            probabilities: Add a column per run and class, such as ``lora-s0:positive``; numbers have none.

        Raises:
            DataError: If no run is complete, or the test rows or a run's predictions are missing or damaged.
        """
        pandas, labels = _pandas("study.predictions()"), self.record.data.labels
        columns: dict[str, Any] = {}
        for run in self._complete():
            found = side_files.read_predictions(self.folder, run, len(labels))
            if found is None:
                raise self._damaged(f"runs/{run.id}/{PREDICTIONS_FILE}")
            columns = columns or {"row": found.row, **self._texts(found.row), "label": _named(found.label, labels)}
            columns[run.id] = _named(found.predicted, labels)
            if probabilities and labels:
                given = side_files.read_probabilities(self.folder, run, len(labels), found.row)
                by_label = zip(*(given[row] for row in found.row.tolist()), strict=True)
                columns |= {f"{run.id}:{name}": values for name, values in zip(labels, by_label, strict=True)}
        return pandas.DataFrame(columns)

    def _complete(self) -> list[RunRecord]:
        done = [run for run in self.record.runs if run.status == "complete"]
        if not done:
            raise DataError(f"No run of the study in {self.folder} is complete.")
        return done

    def _texts(self, rows: NDArray[np.int64]) -> dict[str, list[str]]:
        texts = side_files.read_test_columns(self.folder, rows)
        if "text" not in texts:
            raise self._damaged(TEST_FILE)
        return {name: [column[row] for row in rows.tolist()] for name, column in texts.items()}

    def _damaged(self, name: str) -> DataError:
        return DataError(
            f"{self.folder / name} is missing or damaged. Run the same study again with this folder: it writes the "
            "file again and keeps the rest."
        )


def _named(values: NDArray[Any], labels: list[str]) -> list[Any]:
    """Return classes ``(N,)`` by name, sets ``(N, C)`` as lists of names, and numbers as they are."""
    if not labels:
        return list(values.tolist())
    if values.ndim == 2:
        return [[labels[place] for place in np.flatnonzero(row)] for row in values]
    return [labels[place] for place in values]


def _pandas(needed_for: str) -> Any:  # noqa: ANN401 - a module
    try:
        import pandas
    except ImportError:
        raise MissingExtraError("notebook", needed_for) from None
    return pandas
