"""Runners do the runs of a study: in this process one after the other, or several at a time on a Ray cluster.

A run's result follows from its `RunSpec` and the workbench, so the runner does not change a study, and one runner can
continue what another began.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from feathertune.errors import ConfigError
from feathertune.study.runners.cluster import check_cluster
from feathertune.study.runners.local import run_here
from feathertune.study.runners.ray import run_on_ray

if TYPE_CHECKING:
    from feathertune.config import RunnerConfig
    from feathertune.records import RunRecord
    from feathertune.records.cost_estimate import CostEstimate
    from feathertune.study.observe import Observer
    from feathertune.study.prepared import Prepared
    from feathertune.study.run_spec import RunSpec


class Runner(Protocol):
    """Does runs."""

    def __call__(
        self, runs: Iterable[RunSpec], prepared: Prepared, folder: Path, observer: Observer, cost: CostEstimate | None
    ) -> Generator[RunRecord]:
        """Yield the record of each run as it ends, with its files in the study folder.

        Args:
            runs: In the order in which they may begin; the next one is drawn when there is room for it.
            prepared: The study, its data and its base model.
            folder: The study folder.
            observer: Told everything but the end of a run, one run at a time.
            cost: The cost estimate, if there is one.

        Raises:
            FeathertuneError: If the runs cannot be done here; a method that fails is a failed record instead.
            OSError: If the files cannot be written.
        """
        ...


RUNNERS: Mapping[str, Runner] = MappingProxyType({"local": run_here, "ray": run_on_ray})


def check_runner(config: RunnerConfig) -> None:
    """Check that a runner can work, before any data is read.

    Raises:
        MissingExtraError: If it needs packages that are not installed.
        ConfigError: If its cluster cannot be reached, or it has none.
    """
    if config.name == "ray":
        check_cluster(config.address)
    elif config.address is not None:
        raise ConfigError(
            f"A Ray cluster was named ({config.address}), but the runner is {config.name}. Add --runner ray."
        )
