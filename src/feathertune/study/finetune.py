"""Train one method once and ship it: ``feathertune train``. To judge a method, run a study."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from feathertune.bundle.files import BUNDLE
from feathertune.config import Config
from feathertune.data.sources.collector import RawDataset
from feathertune.engine.training.checkpoint import discard, existing
from feathertune.engine.training.distributed import Group, joined
from feathertune.errors import ConfigError, FeathertuneError
from feathertune.methods import one_method
from feathertune.output_folder import claimed
from feathertune.records import METRICS_FILE, Scores
from feathertune.runtime import GLOBAL_STATE, choose_runtime, seed_everything
from feathertune.study.observe import Observer, Silent
from feathertune.study.planning.resolve import settle
from feathertune.study.prepared import prepare_study
from feathertune.study.running.resume import checkpoint_folder, naming_the_last, open_checkpoints, settle_earlier
from feathertune.study.running.runs import expected_work
from feathertune.study.running.training import Outputs, train_and_test
from feathertune.study.running.workbench import Prepared


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
            goes_on = resume and bool(existing(checkpoint_folder(out)))
            stack.enter_context(claimed(out, BUNDLE, overwrite=overwrite or goes_on))
            settle_earlier(out, resume=resume, overwrite=overwrite)
        except FeathertuneError as error:
            refused = error
    # All hear of it: a process that waits for one that has gone gets a traceback.
    if group.sum(np.array([float(refused is not None)]))[0]:
        raise refused or ConfigError("The first process cannot use the output folder.")


def _train(prepared: Prepared, out: Path, observer: Observer, group: Group, *, resume: bool) -> dict[str, Scores]:
    (spec,) = prepared.plan.runs
    for note in spec.notes if group.leads else ():
        observer.said(f"{spec.method} {note}.")
    checkpoints = open_checkpoints(out, spec, prepared, observer, resume=resume)
    observer.planned({spec.id: expected_work(spec, prepared)}, [])
    observer.started(spec)
    seed_everything(spec.seed)
    with tempfile.TemporaryDirectory() as scratch, naming_the_last(checkpoints):
        outputs = Outputs(Path(scratch) / METRICS_FILE, out, checkpoints)
        scored = train_and_test(spec, prepared, observer, outputs, group).scores
    group.wait()
    if group.leads:
        discard(checkpoints.folder)  # the bundle is safely there
    found = {"validation": scored.validation, "test": scored.test}
    observer.measured({"event": "scores", **found})
    return {name: scores for name, scores in found.items() if scores is not None}
