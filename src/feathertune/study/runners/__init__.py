"""Execute a study's runs: one after another in this process, or several at a time on a Ray cluster.

The runner does not affect a run's result, and one runner can resume another's study.
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

# Yields the record of each run as it ends, and takes the next run when there is room for it. The observer is told of
# everything except the end of a run. A method that fails gives a failed record, not an error.
Runner = Callable[[Iterable[RunSpec], Prepared, Path, Observer, CostEstimate | None], Generator[RunRecord]]


def run_here(
    runs: Iterable[RunSpec], prepared: Prepared, folder: Path, observer: Observer, cost: CostEstimate | None
) -> Generator[RunRecord]:
    """Execute runs in order; see `feathertune.study.runners.Runner`."""
    parts = Parts(prepared)
    for spec in runs:
        observer.started(spec)
        predicted = None if cost is None else cost.row(spec.row, spec.train_rows)
        settled = settle_options(spec, parts, folder, observer)
        yield execute(settled, parts.of(spec), folder, observer, predicted)


RUNNERS: Mapping[str, Runner] = MappingProxyType({"local": run_here, "ray": run_on_ray})


def check_runner(config: RunnerConfig) -> None:
    """Check before reading any data that a runner is available; raise a `ConfigError` if not."""
    if config.name == "ray":
        check_cluster(config.address)
    elif config.address is not None:
        raise ConfigError(
            f"The settings name a Ray cluster ({config.address}), but the runner is {config.name}. Pass --runner ray."
        )
