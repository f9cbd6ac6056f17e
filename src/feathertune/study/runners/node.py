"""Code that runs on a cluster node: check the node, keep the study in memory, and execute runs.

Data arrives through Ray's object store, once per node; results are written to the study folder.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from feathertune.config import EngineConfig
from feathertune.data.sources.collector import SplitName
from feathertune.errors import ConfigError, FeathertuneError
from feathertune.records import RunRecord, differences
from feathertune.records.cost_estimate import CostRow
from feathertune.runtime import Runtime, choose_runtime, hardware, prepare_process, versions
from feathertune.storage import write_atomic
from feathertune.study.observe import Silent
from feathertune.study.run_spec import RunSpec
from feathertune.study.running.runs import execute
from feathertune.study.running.search import settle_options
from feathertune.study.running.workbench import FrozenFeatures, Parts, Prepared

NODE_FILE = "node.json"


@dataclass(frozen=True)
class Site:
    """The study that a cluster's processes work on.

    Attributes:
        token: A file in the study folder and its content, which identify the folder on a node.
        working_folder: Folder that relative paths in the settings start from.
        threads: Threads per run.
        prepared: Ray's reference to the `Prepared` study, in a list so that Ray does not fetch it with every task.
    """

    folder: Path
    token: tuple[Path, str]
    working_folder: Path
    versions: Mapping[str, str]
    threads: int
    prepared: Sequence[Any] = ()


# The study that this process works on, by the site's token.
_kept: dict[str, Parts] = {}


def inspect_node(site: Site) -> str:
    """Return this node's name; raise a `ConfigError` if its packages or its study folder differ."""
    with _named():
        if found := differences(dict(site.versions), versions()):
            name, there, here = found[0]
            raise ConfigError(
                f"{name} is {here or 'not installed'} here, but {there or 'not installed'} where the study started. "
                "Install the same package versions on all nodes, because results depend on them."
            )
        _check_folder(site)
    return socket.gethostname()


def choose_runtime_there(engine: EngineConfig) -> Runtime:
    """Return this node's device and number format, for a study started on a machine with another kind of device."""
    with _named():
        return choose_runtime(engine)


def read_features(site: Site, base: str | None, name: SplitName) -> FrozenFeatures:
    """Return a split's frozen features, for all runs on a base model that read them."""
    return _study(site).on_base(base).bench.features(name, lambda _: None)


def do_search(site: Site, spec: RunSpec, names: Sequence[SplitName], *features: FrozenFeatures) -> dict[str, object]:
    """Run or resume a run's search, with the `features` of the splits `names`; return the best options."""
    parts = _study(site)
    parts.on_base(spec.base).bench.take_features(dict(zip(names, features, strict=True)))
    return settle_options(spec, parts, site.folder, Silent()).options


def do_run(
    site: Site,
    spec: RunSpec,
    predicted: CostRow | None,
    options: dict[str, object] | None,
    names: Sequence[SplitName],
    *features: FrozenFeatures,
) -> RunRecord:
    """Execute one run with its search's `options`, and the `features` that other processes have computed."""
    import ray

    parts = _study(site)
    parts.on_base(spec.base).bench.take_features(dict(zip(names, features, strict=True)))
    prepared = parts.of(spec)
    if options is not None:
        spec = spec.model_copy(update={"options": options})
    record = execute(spec, prepared, site.folder, Silent(), predicted)
    place = {
        "node": socket.gethostname(),
        "ray_node": ray.get_runtime_context().get_node_id(),
        "hardware": hardware(prepared.bench.runtime),
    }
    write_atomic(site.folder / "runs" / spec.id / NODE_FILE, json.dumps(place, indent=1) + "\n")
    return record


def _study(site: Site) -> Parts:
    token = site.token[1]
    if token not in _kept:
        inspect_node(site)
        _kept.clear()
        with _named():
            _kept[token] = Parts(_enter(site))
    return _kept[token]


def _enter(site: Site) -> Prepared:
    """Prepare this process so that runs give the same results as on the machine that started the study."""
    import ray

    torch.set_num_threads(site.threads)
    if site.working_folder.is_dir():
        os.chdir(site.working_folder)
    prepared: Prepared = ray.get(site.prepared[0])
    prepare_process(prepared.study.config.engine)
    for bench in prepared.benches.values():
        found, base = bench.pretrained.load(seed=0), bench.base
        if (found.fingerprint, found.tokenizer_fingerprint) != (base.fingerprint, base.tokenizer_fingerprint):
            raise ConfigError(
                f"the base model {base.id} has different weights, configuration or tokenizer here than where the study "
                "started. All nodes need the same files: put them in a shared folder and pass it as --base."
            )
    return prepared


def _check_folder(site: Site) -> None:
    file, content = site.token
    try:
        shared = file.read_text(encoding="utf-8") == content
    except OSError:
        shared = False
    if not shared:
        raise ConfigError(
            f"the study folder {site.folder} is missing here, or is a different folder, so results could not be "
            "collected. Pass an --out folder that all nodes share under the same path, such as one on NFS."
        )
    try:
        with tempfile.TemporaryFile(dir=site.folder):
            pass
    except OSError as error:
        raise ConfigError(f"cannot write to the study folder {site.folder}: {error.strerror or error}.") from error


@contextmanager
def _named() -> Iterator[None]:
    """Name the node in an error, and raise it as a type that survives pickling."""
    try:
        yield
    except FeathertuneError as error:
        raise ConfigError(f"Node {socket.gethostname()}: {error}") from error
