"""Checkpoints of one training that is shipped: where they lie, what they belong to, who may delete them.

The bundle appears at its place only at the end, so they lie beside it until then. Not for a study: that goes on run by
run (`feathertune.study.compare`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from feathertune.engine.training.checkpoint import Checkpoints, discard, existing
from feathertune.errors import ConfigError, RunFailedError
from feathertune.methods import Method, Options
from feathertune.records import HEAD
from feathertune.runtime import versions
from feathertune.study.observe import Observer
from feathertune.study.running.workbench import Workbench

# Packages that decide what is computed, beside ours.
_PACKAGES = ("feathertune", "torch", "transformers", "peft", "tokenizers", "numpy")


def checkpoint_folder(out: Path) -> Path:
    """Where the checkpoints of a training lie that shall become the bundle `out`."""
    out = out.resolve()
    return out.parent / f".{out.name}.checkpoint"


def settle_earlier(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Decide what becomes of the checkpoints of a training that did not end.

    Raises:
        ConfigError: If there are some and nobody said whether to go on or to start anew.
    """
    folder = checkpoint_folder(out)
    if overwrite:
        discard(folder)
    elif not resume and (found := existing(folder)):
        raise ConfigError(
            f"A training into {out} was stopped before its end; its last checkpoint is {found[-1]}. "
            "Give --resume to go on from there, or --overwrite to start anew."
        )


def identity(bench: Workbench, method: Method, options: Options, seed: int) -> dict[str, Any]:
    """Whatever decides the result of a training, as JSON values; names are those of the settings where there is one."""
    config, data, runtime = bench.config, bench.data, bench.runtime
    rows = {"train": data.n_train, "validation": data.n_validation, "test": data.n_test}
    return {
        "method": {"name": method.name, **options.model_dump(mode="json")},
        "seed": seed,
        "data": {
            "rows": rows,
            "max_length": data.max_length,
            "labels": data.labels,
            "fingerprint": data.fingerprint,
            **({} if data.reading == HEAD else {"reading": data.reading.model_dump(mode="json")}),
        },
        "base": {"model_type": bench.base.model_type, "fingerprint": bench.base.fingerprint},
        # The rate is an option of the method by now.
        "train": config.train.said(exclude=("learning_rate", "checkpoint_every_s")),
        **({} if bench.metric == "accuracy" else {"study": {"metric": bench.metric}}),
        "engine": {
            **config.engine.model_dump(mode="json", exclude={"memory", "cache_bytes", "cache_folder"}),
            "dtype": runtime.dtype,
            "attention": runtime.attention,
            "device": runtime.device.type,
        },
        "versions": {name: version for name, version in versions().items() if name in _PACKAGES},
    }


def open_checkpoints(
    out: Path, bench: Workbench, method: Method, options: Options, seed: int, observer: Observer, *, resume: bool
) -> Checkpoints:
    """The checkpoints of a training, at the last whole one where it shall go on.

    Raises:
        CheckpointError: If it shall go on and cannot: none is whole, or they belong to another training.
    """
    folder = checkpoint_folder(out)
    every_s = bench.config.train.checkpoint_every_s
    checkpoints = Checkpoints(folder, identity(bench, method, options, seed), every_s=every_s)
    if resume:
        for damage in checkpoints.find():
            observer.said(f"{damage} An older one is used.")
        if checkpoints.last is None:
            observer.said(f"There is no checkpoint in {folder}: the training starts from the beginning.")
    return checkpoints


@contextlib.contextmanager
def naming_the_last(checkpoints: Checkpoints) -> Iterator[None]:
    """Say, where a training breaks during the block, which checkpoint is left of it."""
    try:
        yield
    except RunFailedError as error:
        if checkpoints.last is None:
            raise
        raise RunFailedError(
            f"{error} The last good state is kept in {checkpoints.last}: --resume goes on from there with the same "
            "settings; with others, start anew with --overwrite."
        ) from error
