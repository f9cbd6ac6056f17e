"""Execute runs on a Ray cluster, several at a time; each is a task with declared CPUs, GPUs and memory.

Ray repeats a lost task on another node, and files are written atomically. All nodes need a shared folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import feathertune
from feathertune.data.sources.collector import SplitName
from feathertune.errors import ConfigError, FeathertuneError, RunFailedError, first_line
from feathertune.records import RunRecord
from feathertune.records.cost_estimate import CostEstimate, CostRow
from feathertune.runtime import Runtime, versions
from feathertune.storage import write_atomic
from feathertune.study.observe import Observer
from feathertune.study.run_spec import RunSpec
from feathertune.study.runners import node
from feathertune.study.runners.cluster import Needs, alive_nodes, check_room, connected, needs_of, room
from feathertune.study.running.runs import expected_work, failed_run, features_read, keep_run
from feathertune.study.running.search import search_id
from feathertune.study.running.workbench import Prepared, Workbench

Reference = Any  # Ray's reference to a task's result
# A node's first process loads torch, possibly from a slow disk.
_NODE_ANSWERS_WITHIN_S = 600.0
_LOOK_EVERY_S = 5.0
# Time allowed for a new node to replace a lost one.
_WITHOUT_ROOM_S = 120.0
# NFS may take up to a minute to show files written by another machine.
_FILE_SEEN_WITHIN_S = 90.0


def run_on_ray(
    runs: Iterable[RunSpec], prepared: Prepared, folder: Path, observer: Observer, cost: CostEstimate | None
) -> Generator[RunRecord]:
    """Execute runs on a cluster; see `feathertune.study.runners.Runner`."""
    folder = folder.resolve()
    with connected(prepared.study.config.runner.address), _token(folder) as token:
        yield from _Driver(prepared, folder, token, observer, cost).records(iter(runs))


@contextlib.contextmanager
def _token(folder: Path) -> Iterator[tuple[Path, str]]:
    """Write a file that identifies this folder on a node; yield its path and content."""
    content = uuid.uuid4().hex
    file = folder / f".{content}.tmp"
    write_atomic(file, content)
    try:
        yield file, content
    finally:
        file.unlink(missing_ok=True)


class _Driver:
    def __init__(
        self, prepared: Prepared, folder: Path, token: tuple[Path, str], observer: Observer, cost: CostEstimate | None
    ) -> None:
        import ray

        self._config = prepared.study.config
        self._observer, self._cost, self._folder = observer, cost, folder
        functions = (node.inspect_node, node.choose_runtime_there, node.read_features, node.do_search, node.do_run)
        self._tasks = {function: ray.remote(function) for function in functions}
        # Check the nodes for the largest base model.
        largest = max(prepared.benches.values(), key=lambda one: one.base.n_parameters)
        needs = needs_of(self._config, largest)
        # Results depend on the number of threads.
        passed_on = {name: os.environ[name] for name in ("HF_HUB_OFFLINE",) if name in os.environ}
        self._common = {
            "runtime_env": {"env_vars": {"OMP_NUM_THREADS": str(needs.num_cpus), **passed_on}},
            "max_retries": self._config.runner.retries,
        }
        check_room(needs, alive_nodes())
        site = node.Site(folder, token, Path.cwd(), versions(), needs.num_cpus)
        observer.stage("checking the cluster's nodes")
        self._check_nodes(site, needs)
        # Each base model has its own number format.
        benches = {name: one.for_processes(self._runtime(one, needs)) for name, one in prepared.benches.items()}
        self._prepared = replace(prepared, bench=next(iter(benches.values())), benches=benches)
        self._site = replace(site, prepared=[ray.put(self._prepared)])
        self._features: dict[tuple[str | None, SplitName], Reference] = {}
        self._searched: dict[str, Reference] = {}
        self._going: dict[Reference, RunSpec] = {}
        self._lacking_since: float | None = None

    def records(self, runs: Iterator[RunSpec]) -> Generator[RunRecord]:
        """Execute the runs; raise a `RunFailedError` if the cluster loses every node with room for one."""
        import ray

        spec = next(runs, None)
        try:
            while self._going or spec is not None:
                while spec is not None and len(self._going) < room(self._needs(spec), alive_nodes()):
                    self._going[self._start(spec)] = spec
                    self._observer.stage(f"{len(self._going)} runs on the cluster, latest: {spec.id}")
                    spec = next(runs, None)
                self._check_room_is_left(spec)
                if not self._going:
                    time.sleep(_LOOK_EVERY_S)
                    continue
                ended, _ = ray.wait(list(self._going), timeout=_LOOK_EVERY_S)
                for reference in ended:
                    spec_of_it = self._going.pop(reference)
                    record = self._record(reference, spec_of_it)
                    self._tell(spec_of_it, record)
                    yield record
        finally:  # even if the study is interrupted
            for reference in self._going:
                ray.cancel(reference, force=True)

    def _needs(self, spec: RunSpec) -> Needs:
        return needs_of(self._config, self._prepared.on_base(spec.base).bench, self._predicted(spec))

    def _predicted(self, spec: RunSpec) -> CostRow | None:
        return None if self._cost is None else self._cost.row(spec.row, spec.train_rows)

    def _start(self, spec: RunSpec) -> Reference:
        """Start a run, which waits for the features and the search it needs."""
        prepared = self._prepared.on_base(spec.base)
        names = features_read(spec, prepared)
        for name in names:
            if (spec.base, name) not in self._features:
                read = self._task(node.read_features, **needs_of(self._config, prepared.bench)._asdict())
                self._features[spec.base, name] = read.remote(self._site, spec.base, name)
        features, needs = [self._features[spec.base, name] for name in names], self._needs(spec)._asdict()
        options = None
        if spec.space:
            if (key := search_id(spec)) not in self._searched:
                self._searched[key] = self._task(node.do_search, **needs).remote(self._site, spec, names, *features)
            options = self._searched[key]
        run = self._task(node.do_run, **needs)
        return run.remote(self._site, spec, self._predicted(spec), options, names, *features)

    def _task(self, function: Any, **options: Any) -> Any:  # noqa: ANN401 - Ray's remote functions
        return self._tasks[function].options(**self._common, **options)

    def _record(self, reference: Reference, spec: RunSpec) -> RunRecord:
        """Return a task's record, or a failed record if its process died on every attempt."""
        import ray
        from ray.exceptions import RayError

        try:
            record: RunRecord = ray.get(reference)
        except RayError as error:
            why = _cause(error)
            if isinstance(why, FeathertuneError | OSError):
                raise why from None
            record = failed_run(spec, why)
            keep_run(record, self._folder)
        if record.predictions is not None:
            _wait_for(self._folder / record.predictions)
        return record

    def _tell(self, spec: RunSpec, record: RunRecord) -> None:
        self._observer.started(spec)
        if record.metrics is not None:
            for line in (self._folder / record.metrics).read_text(encoding="utf-8").splitlines():
                self._observer.measured(json.loads(line))
        self._observer.advanced(expected_work(spec, self._prepared))

    def _check_nodes(self, site: node.Site, needs: Needs) -> None:
        """Check that every node with room for a run can work on the study."""
        import ray
        from ray.exceptions import RayError, RayTaskError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        looks: dict[Reference, str] = {}
        for found in alive_nodes():
            if needs.fit_into(found["Resources"]):
                there = NodeAffinitySchedulingStrategy(found["NodeID"], soft=False)
                look = self._task(node.inspect_node, num_cpus=0, scheduling_strategy=there)
                looks[look.remote(site)] = found["NodeManagerAddress"]
        done, late = ray.wait(list(looks), num_returns=len(looks), timeout=_NODE_ANSWERS_WITHIN_S)
        lost: Exception | None = None
        for look in done:
            try:
                ray.get(look)
            except RayTaskError as error:
                why = _cause(error)
                if isinstance(why, FeathertuneError):
                    raise why from None
                raise ConfigError(
                    f"The node {looks[look]} cannot run feathertune: {first_line(why)}. Install this version there: "
                    f"pip install 'feathertune[ray]=={feathertune.__version__}'."
                ) from error
            except RayError as error:  # a node may be lost at any time
                lost = error
        if late or (lost is not None and len(done) == 1):
            says = f"it did not answer within {_NODE_ANSWERS_WITHIN_S:.0f} s" if lost is None else first_line(lost)
            raise ConfigError(f"The node {looks[(late or done)[0]]} cannot run feathertune: {says}.")

    def _runtime(self, bench: Workbench, needs: Needs) -> Runtime:
        """Return the runs' device and number format: this machine's, if it has the kind of device they use."""
        import ray

        if (bench.runtime.device.type == "cuda") == (needs.num_gpus > 0):
            return bench.runtime
        chosen: Runtime = ray.get(self._task(node.choose_runtime_there, **needs._asdict()).remote(self._config.engine))
        return chosen

    def _check_room_is_left(self, spec: RunSpec | None) -> None:
        """Raise a `RunFailedError` if no node has had room for a run for a while."""
        runs = (*self._going.values(), *(() if spec is None else (spec,)))
        nodes = alive_nodes()
        if all(room(self._needs(run), nodes) for run in runs):
            self._lacking_since = None
        elif self._lacking_since is None:
            self._lacking_since = time.monotonic()
        elif time.monotonic() - self._lacking_since > _WITHOUT_ROOM_S:
            raise RunFailedError(
                "The cluster has lost every node with room for a run. Finished runs are kept. Repeat the command once "
                "such a node is back, or pass --runner local to continue on this machine."
            )


def _cause(error: Exception) -> Exception:
    """Return the error raised inside a task, if Ray has it."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else error


def _wait_for(file: Path) -> None:
    """Wait until this machine sees a file written by another one."""
    give_up = time.monotonic() + _FILE_SEEN_WITHIN_S
    while not file.exists():
        if time.monotonic() > give_up:
            raise ConfigError(
                f"A node has written {file}, but this machine does not see it after {_FILE_SEEN_WITHIN_S:.0f} s. "
                "Pass an --out folder that all nodes share."
            )
        time.sleep(0.5)
