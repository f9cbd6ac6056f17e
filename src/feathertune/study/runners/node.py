"""What a process on a node of a cluster does: see that it can work, keep the study's workbench, do a run.

Data comes through Ray's object store, which a node's processes share: tokens, labels and texts are there once a node.
The encoder is read from where the study found it, which must be there on the node, too: the hub's cache, a package, or
a shared folder. Everything that a run leaves behind goes through the study folder.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from feathertune.errors import ConfigError, FeathertuneError
from feathertune.records import RunRecord, differences
from feathertune.runtime import Runtime, choose_runtime, hardware, keep_freed_memory, versions
from feathertune.storage import write_atomic
from feathertune.study.observe import Silent
from feathertune.study.running.runs import execute
from feathertune.study.running.search import settle_options
from feathertune.study.running.workbench import by_rows

if TYPE_CHECKING:
    from feathertune.config import EngineConfig
    from feathertune.data.sources.collector import SplitName
    from feathertune.records.cost_estimate import PriceRow
    from feathertune.study.planning.resolve import ResolvedStudy
    from feathertune.study.run_spec import RunSpec
    from feathertune.study.running.pretrained import FrozenFeatures
    from feathertune.study.running.workbench import Workbench

NODE_FILE = "node.json"


@dataclass(frozen=True)
class Site:
    """What every process of a cluster is told of the study that it works for.

    Attributes:
        folder: The study folder, as all nodes see it.
        token: A file in it, and what it says: who reads that sees the same folder.
        working_folder: Relative paths of the settings start there.
        versions: Of the packages that results depend on.
        threads: Of one run.
        study: Ray's reference to the study and its `Workbench`, in a list so that it is fetched only once a process.
    """

    folder: Path
    token: tuple[Path, str]
    working_folder: Path
    versions: Mapping[str, str]
    threads: int
    study: Sequence[Any] = ()

    def with_study(self, reference: Any) -> Site:  # noqa: ANN401 - Ray's
        """Return the same with the study."""
        return dataclasses.replace(self, study=[reference])


class _Kept:
    """The study that this process works for, from its first run to its last."""

    def __init__(self, study: ResolvedStudy, bench: Workbench) -> None:
        self.study, self.bench, self.bench_of = study, bench, by_rows(bench)


_kept: dict[str, _Kept] = {}


def inspect_node(site: Site) -> str:
    """See whether this node can work for the study.

    Returns:
        Its name.

    Raises:
        ConfigError: If it cannot: other packages, or another study folder under the same path.
    """
    with _named():
        _check_versions(site.versions)
        _check_folder(site)
    return socket.gethostname()


def choose_runtime_there(engine: EngineConfig) -> Runtime:
    """Device and number format as a node has them, where the study's own machine has another kind of device."""
    with _named():
        return choose_runtime(engine)


def read_features(site: Site, name: SplitName) -> FrozenFeatures:
    """Frozen features of a split, for all runs that read them."""
    return _study(site).bench.features(name, lambda _: None)


def do_search(site: Site, spec: RunSpec, names: Sequence[SplitName], *features: FrozenFeatures) -> dict[str, object]:
    """Do the search of a run, or go on with it.

    Args:
        site: The study.
        spec: The run.
        names: Splits whose frozen features other processes have computed.
        features: These.

    Returns:
        The options that it found, for all runs of the method on so many rows.
    """
    kept = _study(site)
    kept.bench.take_features(dict(zip(names, features, strict=True)))
    return settle_options(spec, kept.study, kept.bench_of, site.folder, Silent()).options


def do_run(
    site: Site,
    spec: RunSpec,
    predicted: PriceRow | None,
    options: dict[str, object] | None,
    names: Sequence[SplitName],
    *features: FrozenFeatures,
) -> RunRecord:
    """Do one run as the local runner does it.

    Args:
        site: The study.
        spec: The run.
        predicted: What it was said to cost.
        options: What its search has found; ``None`` where there was none.
        names: Splits whose frozen features other processes have computed.
        features: These.
    """
    import ray

    kept = _study(site)
    kept.bench.take_features(dict(zip(names, features, strict=True)))
    bench = kept.bench_of(spec.train_rows, spec.seed)
    if options is not None:
        spec = spec.model_copy(update={"options": options})
    record = execute(spec, kept.study, bench, site.folder, Silent(), predicted)
    place = {
        "node": socket.gethostname(),
        "ray_node": ray.get_runtime_context().get_node_id(),
        "hardware": hardware(bench.runtime),
    }
    write_atomic(site.folder / "runs" / spec.id / NODE_FILE, json.dumps(place, indent=1) + "\n")
    return record


def _study(site: Site) -> _Kept:
    if site.token[1] not in _kept:
        inspect_node(site)
        _kept.clear()
        with _named():
            _kept[site.token[1]] = _Kept(*_enter(site))
    return _kept[site.token[1]]


def _enter(site: Site) -> tuple[ResolvedStudy, Workbench]:
    """Make this process one in which runs give what they give on the study's own machine."""
    import ray

    torch.set_num_threads(site.threads)
    if site.working_folder.is_dir():
        os.chdir(site.working_folder)
    study, bench = ray.get(site.study[0])
    if study.config.engine.memory == "keep":
        keep_freed_memory()
    found = bench.load_encoder(seed=0)
    if found.fingerprint != bench.base.fingerprint:
        raise ConfigError(
            f"the encoder {bench.base.id} has other weights here than where the study was started. Expected the same "
            "files on all nodes: put them into a shared folder and name it as --base."
        )
    return study, bench


def _check_versions(expected: Mapping[str, str]) -> None:
    if found := differences(dict(expected), versions()):
        name, there, here = found[0]
        raise ConfigError(
            f"{name} is {here or 'not installed'} here and {there or 'not installed'} where the study was started. "
            "Expected the same packages on all nodes, since results depend on them."
        )


def _check_folder(site: Site) -> None:
    file, says = site.token
    try:
        shared = file.read_text(encoding="utf-8") == says
    except OSError:
        shared = False
    if not shared:
        raise ConfigError(
            f"the study folder {site.folder} is not there, or is another one, so that results could not come back. "
            "Expected a folder that all nodes share under one path, such as one on NFS: give it as --out."
        )
    try:
        with tempfile.TemporaryFile(dir=site.folder):
            pass
    except OSError as error:
        raise ConfigError(f"the study folder {site.folder} cannot be written: {error.strerror or error}.") from error


@contextmanager
def _named() -> Iterator[None]:
    """Say on which node something is wrong; in an error that comes whole through a pickle."""
    try:
        yield
    except FeathertuneError as error:
        raise ConfigError(f"Node {socket.gethostname()}: {error}") from error
