"""Do the runs of a study: in this process one after the other, or several at a time on a Ray cluster.

The runner does not change a run's result, and one runner can continue another's study.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from feathertune.config import RunnerConfig
from feathertune.errors import ConfigError
from feathertune.records import RunRecord
from feathertune.records.cost_estimate import CostEstimate
from feathertune.study.observe import Observer
from feathertune.study.run_spec import RunSpec
from feathertune.study.runners.cluster import check_cluster
from feathertune.study.runners.ray import run_on_ray
from feathertune.study.running.runs import execute
from feathertune.study.running.search import settle_options
from feathertune.study.running.workbench import Parts, Prepared

# Yields the record of each run as it ends; the next run is drawn when there is room for it. The observer hears of
# everything but the end of a run. A method that fails is a failed record, not an error.
Runner = Callable[[Iterable[RunSpec], Prepared, Path, Observer, CostEstimate | None], Generator[RunRecord]]


def run_here(
    runs: Iterable[RunSpec], prepared: Prepared, folder: Path, observer: Observer, cost: CostEstimate | None
) -> Generator[RunRecord]:
    """Do runs in their order; see `feathertune.study.runners.Runner`."""
    parts = Parts(prepared)
    for spec in runs:
        observer.started(spec)
        predicted = None if cost is None else cost.row(spec.row, spec.train_rows)
        settled = settle_options(spec, parts, folder, observer)
        yield execute(settled, parts.of(spec), folder, observer, predicted)


RUNNERS: Mapping[str, Runner] = MappingProxyType({"local": run_here, "ray": run_on_ray})


def check_runner(config: RunnerConfig) -> None:
    """Check that a runner can work, before any data is read; raise a `ConfigError` if it cannot."""
    if config.name == "ray":
        check_cluster(config.address)
    elif config.address is not None:
        raise ConfigError(
            f"A Ray cluster was named ({config.address}), but the runner is {config.name}. Add --runner ray."
        )
