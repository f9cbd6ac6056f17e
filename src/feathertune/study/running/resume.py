"""Checkpoints of one training that becomes a bundle, kept next to it until the bundle appears at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from feathertune.engine.training.checkpoint import Checkpoints, discard, existing
from feathertune.errors import ConfigError, RunFailedError
from feathertune.runtime import versions
from feathertune.study.observe import Observer
from feathertune.study.run_spec import RunSpec
from feathertune.study.running.workbench import Prepared

# Packages that decide what is computed.
_PACKAGES = ("feathertune", "torch", "transformers", "peft", "tokenizers", "numpy")


def checkpoint_folder(out: Path) -> Path:
    """Return the folder of the checkpoints of a training that becomes the bundle `out`."""
    out = out.resolve()
    return out.parent / f".{out.name}.checkpoint"


def settle_earlier(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Delete the checkpoints of a stopped training to overwrite it; refuse them without `resume`."""
    folder = checkpoint_folder(out)
    if overwrite:
        discard(folder)
    elif not resume and (found := existing(folder)):
        raise ConfigError(
            f"A training into {out} was stopped before its end; its last checkpoint is {found[-1]}. "
            "Give --resume to go on from there, or --overwrite to start anew."
        )


def identity(spec: RunSpec, prepared: Prepared) -> dict[str, Any]:
    """Return everything that decides a training's result, as JSON values under the names of the settings."""
    bench, study, config = prepared.bench, prepared.study, prepared.study.config
    data, runtime = bench.data, bench.runtime
    return {
        "method": {"name": spec.method, **spec.options},
        "seed": spec.seed,
        "data": {
            "rows": {"train": data.n_train, "validation": data.n_validation, "test": data.n_test},
            "max_length": data.max_length,
            "labels": data.labels,
            "fingerprint": data.fingerprint,
            "reading": data.reading.model_dump(mode="json"),
        },
        "base": {
            "model_type": bench.base.model_type,
            "fingerprint of weights and configuration": bench.base.fingerprint,
            "fingerprint of the tokenizer": bench.base.tokenizer_fingerprint,
        },
        # The rate is an option of the method by now.
        "train": config.train.model_dump(mode="json", exclude={"learning_rate", "checkpoint_every_s"}),
        "study": {"metric": study.task.primary.name},
        "engine": {
            **config.engine.model_dump(mode="json", exclude={"memory", "cache_bytes", "cache_folder"}),
            "dtype": runtime.dtype,
            "attention": runtime.attention,
            "device": runtime.device.type,
        },
        "versions": {name: version for name, version in versions().items() if name in _PACKAGES},
    }


def open_checkpoints(out: Path, spec: RunSpec, prepared: Prepared, observer: Observer, *, resume: bool) -> Checkpoints:
    """Return the checkpoints of a training; to resume, at the last whole one of the same training."""
    folder = checkpoint_folder(out)
    every_s = prepared.study.config.train.checkpoint_every_s
    checkpoints = Checkpoints(folder, identity(spec, prepared), every_s=every_s)
    if resume:
        for damage in checkpoints.find():
            observer.said(f"{damage} An older one is used.")
        if checkpoints.last is None:
            observer.said(f"There is no checkpoint in {folder}: the training starts from the beginning.")
    return checkpoints


@contextlib.contextmanager
def naming_the_last(checkpoints: Checkpoints) -> Iterator[None]:
    """Name the last checkpoint in the error of a training that breaks during the block."""
    try:
        yield
    except RunFailedError as error:
        if checkpoints.last is None:
            raise
        raise RunFailedError(
            f"{error} The last good state is kept in {checkpoints.last}: --resume goes on from there with the same "
            "settings; with others, start anew with --overwrite."
        ) from error
