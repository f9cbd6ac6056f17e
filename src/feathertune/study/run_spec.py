"""Complete description of one run: with the same data and base model, it determines the result."""

from __future__ import annotations

import re

from pydantic import Field

from feathertune.records import Kind, Record
from feathertune.records.row_names import row_name


class RunSpec(Record):
    """One method, one seed, every option spelled out.

    Attributes:
        base: Short name of the base model; null in a study of one, and for baselines without a base model.
        train_rows: Number of training rows; null for all rows, in a study without a learning curve.
        sweeps_depth: True if a sweep on validation rows chooses ``top_layers`` at the start of the run.
        trains: Number of trained parameters, including the head; null for baselines.
        space: Values of the options that a search chooses first.
    """

    id: str
    method: str
    base: str | None = None
    kind: Kind
    seed: int
    train_rows: int | None = None
    options: dict[str, object] = Field(default_factory=dict)
    sweeps_depth: bool = False
    trains: int | None = None
    notes: list[str] = Field(default_factory=list)
    space: dict[str, list[object]] = Field(default_factory=dict)

    @property
    def row(self) -> str:
        """Name of the run's row: method and base model."""
        return row_name(self.method, self.base)

    def with_options(self, **options: object) -> RunSpec:
        """Return the run with some options changed."""
        return self.model_copy(update={"options": {**self.options, **options}})

    def at_depth(self, top_layers: int) -> RunSpec:
        """Return the run with a fixed number of adapted last layers, without a sweep."""
        return self.with_options(top_layers=top_layers).model_copy(update={"sweeps_depth": False})


def run_id(row: str, rows: int | None, seed: int) -> str:
    """Return the name of a run and its folder; characters not allowed in file names become ``-``."""
    row = re.sub(r"[^A-Za-z0-9._=@]+", "-", row).strip("-")
    return f"{row}-s{seed}" if rows is None else f"{row}-n{rows}-s{seed}"
