"""Runs one after the other, in this process."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from feathertune.study.runs import execute

if TYPE_CHECKING:
    from feathertune.prices import Price
    from feathertune.records import RunRecord
    from feathertune.study.observe import Observer
    from feathertune.study.plan import RunSpec
    from feathertune.study.workbench import Workbench


def run_here(
    runs: Iterable[RunSpec], bench: Workbench, folder: Path, observer: Observer, price: Price | None
) -> Generator[RunRecord]:
    """Do runs in their order; see `feathertune.study.runners.Runner`."""
    with_rows = functools.lru_cache(maxsize=1)(bench.with_rows)  # the runs with the same rows come together
    for spec in runs:
        observer.started(spec)
        predicted = None if price is None else price.row(spec.method, spec.train_rows)
        its_bench = bench if spec.train_rows is None else with_rows(spec.train_rows, spec.seed)
        yield execute(spec, its_bench, folder, observer, predicted)
