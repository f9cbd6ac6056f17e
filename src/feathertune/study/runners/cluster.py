"""Ray cluster: connection, resources that a run needs, and free room on the nodes."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from feathertune.config import Config
from feathertune.errors import ConfigError, MissingExtraError, first_line
from feathertune.records.cost_estimate import CostRow
from feathertune.study.running.workbench import Workbench

_ANSWERS_WITHIN_S = 10.0
_RAYS_OWN_WORDS = ("auto", "local")
# Memory of a process after loading torch, transformers and scikit-learn and creating their kernels.
_PROCESS_BYTES = 1_500_000_000
# A trained parameter, its gradient and the optimizer's two values.
_BYTES_A_PARAMETER = 4 * 4
# Bytes that a block of width D keeps per token for the backward pass, divided by D, in fp32. Source: Korthikanti et al.
# 2022, section 4.1, which gives 34 D bytes in fp16.
_BLOCK_KEEPS = 17 * 4


class Needs(NamedTuple):
    """Resources that a run needs, as arguments of a Ray task; `memory` is in bytes."""

    num_cpus: int
    num_gpus: float
    memory: int

    def fit_into(self, resources: Mapping[str, float]) -> int:
        """Return the number of runs that fit on a node with these resources."""
        asked = {"CPU": self.num_cpus, "GPU": self.num_gpus, "memory": self.memory}
        return min(int(resources.get(name, 0.0) // need) for name, need in asked.items() if need)

    def __str__(self) -> str:
        gpus = f", {self.num_gpus:g} GPUs" if self.num_gpus else ""
        return f"{self.num_cpus} CPUs{gpus} and {self.memory / 1e9:.1f} GB of memory"


def needs_of(config: Config, bench: Workbench, predicted: CostRow | None = None) -> Needs:
    """Return the resources a run needs: from the settings, else its cost estimate, else a guess."""
    settings, base, on_gpu = config.runner, bench.base, bench.runtime.device.type == "cuda"
    # On a GPU, the cost estimate's memory is the GPU's, not the machine's.
    estimated = predicted.memory_bytes if predicted is not None and not on_gpu else None
    # The guess assumes that the process trains the whole encoder.
    kept = _BLOCK_KEEPS * config.train.token_budget * base.n_layers * base.hidden_size
    guess = _PROCESS_BYTES + _BYTES_A_PARAMETER * base.n_parameters + kept
    return Needs(
        num_cpus=settings.num_cpus or torch.get_num_threads(),
        num_gpus=settings.num_gpus if settings.num_gpus is not None else float(on_gpu),
        memory=settings.memory or estimated or guess,
    )


Node = Mapping[str, Any]  # Ray's description of a node


def alive_nodes() -> list[Node]:
    """Return the nodes that are alive."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def room(needs: Needs, nodes: Sequence[Node]) -> int:
    """Return the number of runs that fit on all nodes together."""
    return sum(needs.fit_into(node["Resources"]) for node in nodes)


def check_room(needs: Needs, nodes: Sequence[Node]) -> None:
    """Raise a `ConfigError` if no node has room for a run."""
    if room(needs, nodes):
        return
    found = {
        f"{has.get('CPU', 0):g} CPUs, {has.get('GPU', 0):g} GPUs, {has.get('memory', 0) / 1e9:.1f} GB"
        for has in (node["Resources"] for node in nodes)
    }
    raise ConfigError(
        f"A run needs {needs}, but no node of the cluster has that much. The nodes have {'; '.join(sorted(found))}. "
        "Lower a run's needs with --set runner.num_cpus=N, --set runner.num_gpus=N or --set runner.memory=BYTES."
    )


def check_cluster(address: str | None) -> None:
    """Raise a `ConfigError` if an address cannot be a cluster; None leaves the choice to Ray."""
    if importlib.util.find_spec("ray") is None:
        raise MissingExtraError("ray", "The runner ray")
    source = "--ray-address" if address else "RAY_ADDRESS"
    address = address or os.environ.get("RAY_ADDRESS")
    if not address or address in _RAYS_OWN_WORDS:
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise ConfigError(
            f"{source} is '{address}'. Expected HOST:PORT of the cluster's head node, such as 10.0.0.1:6379, or 'auto' "
            "for this machine's cluster. This machine must belong to the cluster."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWERS_WITHIN_S).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"No Ray cluster answers at {address} ({source}): {first_line(error)}. Start one there with "
            "`ray start --head --port=6379`, correct the address, or leave it out to use only this machine."
        ) from error


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster during the block; ``None`` means ``RAY_ADDRESS``, this machine's, or a new local one."""
    check_cluster(address)
    # Ray reports lost processes on stdout, which is reserved for the command's result.
    with contextlib.redirect_stdout(sys.stderr):
        with _own_handler_of_sigterm():
            import ray

            mine = not ray.is_initialized()
            if mine:
                try:
                    ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
                except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
                    raise ConfigError(
                        f"Cannot use the Ray cluster {address or 'on this machine'}: {first_line(error)}."
                    ) from error
        try:
            yield
        finally:
            if mine:
                ray.shutdown()


@contextlib.contextmanager
def _own_handler_of_sigterm() -> Iterator[None]:
    """Restore this process's SIGTERM handler, which Ray replaces with a silent exit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None:  # None means the handler was not set from Python and cannot be restored
            signal.signal(signal.SIGTERM, before)
