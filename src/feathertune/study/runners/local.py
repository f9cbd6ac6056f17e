"""Do runs one after the other, in this process."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from feathertune.study.running.runs import execute
from feathertune.study.running.search import settle_options
from feathertune.study.running.workbench import by_rows

if TYPE_CHECKING:
    from feathertune.records import RunRecord
    from feathertune.records.cost_estimate import CostEstimate
    from feathertune.study.observe import Observer
    from feathertune.study.prepared import Prepared
    from feathertune.study.run_spec import RunSpec


def run_here(
    runs: Iterable[RunSpec], prepared: Prepared, folder: Path, observer: Observer, cost: CostEstimate | None
) -> Generator[RunRecord]:
    """Do runs in their order; see `feathertune.study.runners.Runner`."""
    study, bench_of = prepared.study, by_rows(prepared.bench)
    for spec in runs:
        observer.started(spec)
        predicted = None if cost is None else cost.row(spec.method, spec.train_rows)
        settled = settle_options(spec, study, bench_of, folder, observer)
        yield execute(settled, study, bench_of(spec.train_rows, spec.seed), folder, observer, predicted)
