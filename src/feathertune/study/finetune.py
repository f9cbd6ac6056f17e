"""Train one method once and write a bundle: ``feathertune train``. To judge a method, run a study.

Checkpoints are kept next to the output folder until the bundle is written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from feathertune.bundle.files import BUNDLE, check_manifest, read_info
from feathertune.config import Config
from feathertune.data.sources.collector import RawDataset
from feathertune.data.sources.registry import without_path
from feathertune.engine.training.checkpoint import Checkpoints, discard, existing
from feathertune.engine.training.distributed import Group, joined
from feathertune.errors import ConfigError, FeathertuneError, RunFailedError
from feathertune.methods import one_method, without_options
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
from feathertune.tasks import TASKS

# Packages that affect the result.
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

    `data` replaces the configured source. `resume` continues from the last checkpoint to the same result,
    and leaves a finished bundle as it is. `overwrite` deletes checkpoints at once, and replaces an existing bundle once
    the new one is verified. Trainings in several threads run one after another, because torch's random state belongs to
    the process.

    Raises:
        FeathertuneError: If an argument is invalid, or the training fails.
    """
    if resume and overwrite:
        raise ConfigError("--resume continues a training and --overwrite starts over. Pass only one of them.")
    one_method(method)
    config.one_base()
    if config.data.shots is not None:
        raise ConfigError(
            f"data.shots is {config.data.shots}, but shots work only in a comparison, which draws new rows for each "
            "seed. Leave it out to train on all labels, or pass --train-size. "
            "Pass --validation-size 0 to train without validation rows."
        )
    study = config.study.model_copy(update={"methods": (method,)})
    settled = settle(config.model_copy(update={"study": study}))
    with joined() as group, GLOBAL_STATE, contextlib.ExitStack() as stack:
        if not group.leads:
            observer = Silent()
        if _claim(settled.config, out, group, stack, resume=resume, overwrite=overwrite):
            observer.said(f"The training into {out} is already finished. Nothing was changed.")
            return _scores_in(out) if group.leads else {}
        runtime = choose_runtime(settled.config.engine)
        if group.sum(np.array([float(runtime.dtype == "bf16")]))[0] < group.size:  # not all processes choose bf16
            runtime = dataclasses.replace(runtime, dtype="fp32")
        prepared = prepare_study(settled, runtime, observer, data=data, seed=seed)
        return _train(prepared, out, observer, group, resume=resume)


def _claim(
    config: Config, out: Path, group: Group, stack: contextlib.ExitStack, *, resume: bool, overwrite: bool
) -> bool:
    """Hold the output folder until the end of the stack; return True if `resume` finds the training finished.

    Raises a ConfigError in all processes if the folder cannot be used.
    """
    refused: FeathertuneError | None = None
    finished = False
    if group.leads:
        try:
            # With checkpoints, a bundle is older than the stopped training, which replaces it at its end.
            has_checkpoints = resume and bool(existing(_checkpoint_folder(out)))
            finished = resume and not has_checkpoints and BUNDLE.own_files(out) is not None
            if finished:
                _check_same_training(config, out)
            else:
                stack.enter_context(claimed(out, BUNDLE, overwrite=overwrite or has_checkpoints))
                _settle_earlier(out, resume=resume, overwrite=overwrite)
        except FeathertuneError as error:
            refused = error
    # All processes learn the result: one that waited for a process that has ended would get a traceback.
    n_refused, n_finished = group.sum(np.array([float(refused is not None), float(finished)]))
    if n_refused:
        raise refused or ConfigError("The first process cannot use the output folder.")
    return bool(n_finished)


def _check_same_training(config: Config, out: Path) -> None:
    """Require a whole bundle of the same method, data and training settings, as far as it records them.

    The bundle has no seed, and no fingerprint of the data.
    """
    check_manifest(out)
    info = read_info(out)
    (method,) = config.study.methods
    # The bundle has the epochs that the number of rows led to.
    train = config.train.model_dump(mode="json", exclude={"epochs", "min_steps", "learning_rate", "checkpoint_every_s"})
    given = {
        "method": without_options(method),
        "data": without_path(config.data.source),
        "max_length": config.data.max_length,
        **train,
    }
    found = {
        "method": info.method,
        "data": None if info.data is None else info.data.source,
        "max_length": info.max_length,
        **{name: info.hyperparameters.get(name) for name in train},
    }
    if different := [f"{name}: {found[name]} there, {given[name]} now" for name in given if found[name] != given[name]]:
        raise ConfigError(
            f"{out} holds a finished bundle of another training ({'; '.join(different)}), so --resume cannot continue "
            "it. Give another --out, or pass --overwrite instead of --resume."
        )


def _scores_in(bundle: Path) -> dict[str, Scores]:
    """Return the scores that a bundle records."""
    info = read_info(bundle)
    record = TASKS[info.task].record
    return {name: record.model_validate(info.metrics[name]) for name in ("validation", "test") if name in info.metrics}


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
        discard(checkpoints.folder)  # the bundle is complete by now
    found = {"validation": scored.validation, "test": scored.test}
    observer.measured({"event": "scores", **found})
    return {name: scores for name, scores in found.items() if scores is not None}


def _checkpoint_folder(out: Path) -> Path:
    """Return the checkpoint folder of the training that writes the bundle `out`."""
    out = out.resolve()
    return out.parent / f".{out.name}.checkpoint"


def _settle_earlier(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Delete an interrupted training's checkpoints with `overwrite`; reject them unless `resume` is set."""
    folder = _checkpoint_folder(out)
    if overwrite:
        discard(folder)
    elif not resume and (found := existing(folder)):
        raise ConfigError(
            f"A training into {out} was interrupted; its last checkpoint is {found[-1]}. "
            "Pass --resume to continue from there, or --overwrite to start over."
        )


def identity(spec: RunSpec, prepared: Prepared) -> dict[str, Any]:
    """Return everything that determines a training's result, as JSON values named after the settings."""
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
        # The learning rate is already among the method's options.
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
    """Return a training's checkpoints; with `resume`, positioned at the last intact one."""
    folder = _checkpoint_folder(out)
    every_s = prepared.study.config.train.checkpoint_every_s
    checkpoints = Checkpoints(folder, identity(spec, prepared), every_s=every_s)
    if resume:
        for damage in checkpoints.find():
            observer.said(f"{damage} Using an older one.")
        if checkpoints.last is None:
            observer.said(f"No checkpoint found in {folder}: starting from the beginning.")
    return checkpoints


@contextlib.contextmanager
def _naming_the_last(checkpoints: Checkpoints) -> Iterator[None]:
    """Name the last checkpoint in the error if training fails inside the block."""
    try:
        yield
    except RunFailedError as error:
        if checkpoints.last is None:
            raise
        raise RunFailedError(
            f"{error} The last good state is in {checkpoints.last}. "
            "Pass --resume to continue from it with the same settings, or --overwrite to start over with new ones."
        ) from error
