"""Who does the runs of a study: this process one after the other, or a Ray cluster several at a time.

A runner has one job: given the runs that are left, it yields the record of each as it ends, its files in the study
folder by then. What a run gives follows from its `RunSpec` and the workbench alone, so a study is the same
whoever did its runs, and one may go on with what another has begun.

Not for one training in several processes: that is `feathertune.engine.training.distributed`.
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
    from feathertune.records.cost_estimate import Price
    from feathertune.study.observe import Observer
    from feathertune.study.planning.resolve import ResolvedStudy
    from feathertune.study.run_spec import RunSpec
    from feathertune.study.running.workbench import Workbench


class Runner(Protocol):
    """Does runs."""

    def __call__(
        self,
        runs: Iterable[RunSpec],
        study: ResolvedStudy,
        bench: Workbench,
        folder: Path,
        observer: Observer,
        price: Price | None,
    ) -> Generator[RunRecord]:
        """Do runs, and tell all of each but its end.

        Args:
            runs: In the order in which they may begin; the next one is drawn when there is room for it.
            study: Their study.
            bench: Data and base model.
            folder: The study folder.
            observer: Is told, in this process. Of runs that go side by side each is told whole when it has ended.
            price: What they were said to cost, where that was asked for.

        Raises:
            FeathertuneError: If they cannot be done here; a method that breaks is a failed record instead.
            OSError: If the files cannot be written.
        """
        ...


RUNNERS: Mapping[str, Runner] = MappingProxyType({"local": run_here, "ray": run_on_ray})


def check_runner(config: RunnerConfig) -> None:
    """Refuse a runner that cannot work, before any data is read.

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
