"""Train one method once and ship it: ``feathertune train``. To judge a method, run a study.

Its checkpoints are kept next to the bundle until that appears at the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from feathertune.bundle.files import BUNDLE
from feathertune.config import Config
from feathertune.data.sources.collector import RawDataset
from feathertune.engine.training.checkpoint import Checkpoints, discard, existing
from feathertune.engine.training.distributed import Group, joined
from feathertune.errors import ConfigError, FeathertuneError, RunFailedError
from feathertune.methods import one_method
from feathertune.output_folder import claimed
from feathertune.records import METRICS_FILE, Scores
from feathertune.runtime import GLOBAL_STATE, choose_runtime, seed_everything, versions
from feathertune.study.observe import Observer, Silent
from feathertune.study.planning.resolve import settle
from feathertune.study.prepared import prepare_study
from feathertune.study.run_spec import RunSpec
from feathertune.study.running.runs import expected_work
from feathertune.study.running.training import Outputs, train_and_test
from feathertune.study.running.workbench import Prepared

# Packages that decide what is computed.
_PACKAGES = ("feathertune", "torch", "transformers", "peft", "tokenizers", "numpy")


def finetune(
    config: Config,
    method: str,
    out: Path,
    *,
    seed: int,
    observer: Observer,
    overwrite: bool = False,
    resume: bool = False,
    data: RawDataset | None = None,
) -> dict[str, Scores]:
    """Train, test and write a bundle; return the scores on ``validation`` and ``test``, if they have rows.

    `data` replaces the source that the settings name. `resume` goes on from the last checkpoint to the same result;
    `overwrite` replaces a bundle once the new one is proven, and deletes checkpoints at once. FeathertuneError if
    something given cannot be used, or the training breaks. Trainings in several threads run one after another: torch's
    random state is the process's.
    """
    if resume and overwrite:
        raise ConfigError("Both --resume, which goes on, and --overwrite, which starts anew, are given. Expected one.")
    one_method(method)
    config.one_base()
    if config.data.shots is not None:
        raise ConfigError(
            f"data.shots ({config.data.shots}) draws other rows for each seed of a comparison; a model that is kept is "
            "trained on all labels that there are. Leave it out, or give --train-size; --validation-size 0 trains "
            "without validation rows."
        )
    study = config.study.model_copy(update={"methods": (method,)})
    settled = settle(config.model_copy(update={"study": study}))
    with joined() as group, GLOBAL_STATE, contextlib.ExitStack() as stack:
        if not group.leads:
            observer = Silent()
        _claim(out, group, stack, resume=resume, overwrite=overwrite)
        runtime = choose_runtime(settled.config.engine)
        if group.sum(np.array([float(runtime.dtype == "bf16")]))[0] < group.size:  # not all processes choose bf16
            runtime = dataclasses.replace(runtime, dtype="fp32")
        prepared = prepare_study(settled, runtime, observer, data=data, seed=seed)
        return _train(prepared, out, observer, group, resume=resume)


def _claim(out: Path, group: Group, stack: contextlib.ExitStack, *, resume: bool, overwrite: bool) -> None:
    """Hold the output folder until the end of the stack; refuse one that cannot be used, in all processes alike."""
    refused: FeathertuneError | None = None
    if group.leads:
        try:
            # A bundle from before stays until the end, so it is not the result of the training that was stopped.
            goes_on = resume and bool(existing(_checkpoint_folder(out)))
            stack.enter_context(claimed(out, BUNDLE, overwrite=overwrite or goes_on))
            _settle_earlier(out, resume=resume, overwrite=overwrite)
        except FeathertuneError as error:
            refused = error
    # All hear of it: a process that waits for one that has gone gets a traceback.
    if group.sum(np.array([float(refused is not None)]))[0]:
        raise refused or ConfigError("The first process cannot use the output folder.")


def _train(prepared: Prepared, out: Path, observer: Observer, group: Group, *, resume: bool) -> dict[str, Scores]:
    (spec,) = prepared.plan.runs
    for note in spec.notes if group.leads else ():
        observer.said(f"{spec.method} {note}.")
    checkpoints = _open_checkpoints(out, spec, prepared, observer, resume=resume)
    observer.planned({spec.id: expected_work(spec, prepared)}, [])
    observer.started(spec)
    seed_everything(spec.seed)
    with tempfile.TemporaryDirectory() as scratch, _naming_the_last(checkpoints):
        outputs = Outputs(Path(scratch) / METRICS_FILE, out, checkpoints)
        scored = train_and_test(spec, prepared, observer, outputs, group).scores
    group.wait()
    if group.leads:
        discard(checkpoints.folder)  # the bundle is safely there
    found = {"validation": scored.validation, "test": scored.test}
    observer.measured({"event": "scores", **found})
    return {name: scores for name, scores in found.items() if scores is not None}


def _checkpoint_folder(out: Path) -> Path:
    """Return the folder of the checkpoints of a training that becomes the bundle `out`."""
    out = out.resolve()
    return out.parent / f".{out.name}.checkpoint"


def _settle_earlier(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Delete the checkpoints of a stopped training to overwrite it; refuse them without `resume`."""
    folder = _checkpoint_folder(out)
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


def _open_checkpoints(out: Path, spec: RunSpec, prepared: Prepared, observer: Observer, *, resume: bool) -> Checkpoints:
    """Return the checkpoints of a training; to resume, at the last whole one of the same training."""
    folder = _checkpoint_folder(out)
    every_s = prepared.study.config.train.checkpoint_every_s
    checkpoints = Checkpoints(folder, identity(spec, prepared), every_s=every_s)
    if resume:
        for damage in checkpoints.find():
            observer.said(f"{damage} An older one is used.")
        if checkpoints.last is None:
            observer.said(f"There is no checkpoint in {folder}: the training starts from the beginning.")
    return checkpoints


@contextlib.contextmanager
def _naming_the_last(checkpoints: Checkpoints) -> Iterator[None]:
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
