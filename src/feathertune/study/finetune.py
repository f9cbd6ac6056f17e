"""Train one method once and ship it: what ``feathertune train`` does. Not for judging a method: that takes a study."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from feathertune.bundle.files import MANIFEST_FILE
from feathertune.config import Config
from feathertune.data.sources.collector import RawDataset
from feathertune.engine.training.checkpoint import discard, existing
from feathertune.engine.training.distributed import Group, joined
from feathertune.errors import ConfigError, FeathertuneError
from feathertune.methods import Method, Options, one_method
from feathertune.records import METRICS_FILE, Scores
from feathertune.runtime import seed_everything
from feathertune.storage import check_place
from feathertune.study.observe import Observer, Silent
from feathertune.study.planning.method_sizing import fit_methods
from feathertune.study.planning.plan import RunSpec, run_id, settle
from feathertune.study.running.resume import checkpoint_folder, naming_the_last, open_checkpoints, settle_earlier
from feathertune.study.running.runs import expected_work
from feathertune.study.running.training import train_and_test
from feathertune.study.running.workbench import Workbench


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
    """Train, test and write a bundle.

    Args:
        config: The settings; of its ``study`` part, what decides a method's options.
        method: A name of `METHODS`.
        out: Where the bundle shall be.
        seed: Of the head, the adapter and the order of examples.
        observer: Is told what happens.
        overwrite: Replace a bundle that lies there, once the new one is proven; what is left of a training that did
            not end is deleted at once.
        resume: Go on from the last checkpoint of such a training, to the same result; from the beginning where there
            is none.
        data: Texts and labels that are at hand already; else those that the settings name are read.

    Returns:
        The scores on ``validation`` and ``test``; not on one for which no rows are kept.

    Raises:
        FeathertuneError: If the settings, the data, the folder or the checkpoint cannot be used, or the training
            breaks.
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
    config, ((chosen, options),) = settle(config.model_copy(update={"study": study}))
    with joined() as group:
        refused: FeathertuneError | None = None
        if not group.leads:
            observer = Silent()
        else:
            try:
                # What stands there stays until the end, so it is no result of the training that was stopped.
                goes_on = resume and bool(existing(checkpoint_folder(out)))
                check_place(out, marker=MANIFEST_FILE, overwrite=overwrite or goes_on)
                settle_earlier(out, resume=resume, overwrite=overwrite)
            except FeathertuneError as error:
                refused = error
        # All hear of it: who waits for a process that has gone gets a traceback.
        if group.sum(np.array([float(refused is not None)]))[0]:
            raise refused or ConfigError("The first process cannot use the output folder.")
        return _finetune(config, chosen, options, out, data, seed=seed, observer=observer, resume=resume, group=group)


def _finetune(
    config: Config,
    chosen: Method,
    options: Options,
    out: Path,
    data: RawDataset | None,
    *,
    seed: int,
    observer: Observer,
    resume: bool,
    group: Group,
) -> dict[str, Scores]:
    bench = Workbench.prepare(config, observer, data)
    if group.sum(np.array([float(bench.runtime.dtype == "bf16")]))[0] < group.size:  # all have to agree
        engine = config.engine.model_copy(update={"dtype": "fp32"})
        config = config.model_copy(update={"engine": engine})
        bench = Workbench.prepare(config, observer, data)
    # Before features are computed for a method that does not fit, and before a checkpoint is asked whether it does.
    (fitted,) = fit_methods(config, [(chosen, options)], bench.load_encoder(seed=seed), observer).methods
    options = fitted.options
    for note in fitted.notes if group.leads else ():
        observer.said(f"{chosen.name} {note}.")
    checkpoints = open_checkpoints(out, bench, chosen, options, seed, observer, resume=resume)
    spec = RunSpec(
        id=run_id(chosen.name, None, seed),
        method=chosen.name,
        kind=chosen.kind,
        seed=seed,
        options=options.model_dump(mode="json"),
    )
    observer.planned({spec.id: expected_work(spec, bench)}, [])
    observer.started(spec)
    seed_everything(seed)
    with tempfile.TemporaryDirectory() as scratch, naming_the_last(checkpoints):
        log = Path(scratch) / METRICS_FILE
        outcome = train_and_test(
            chosen, options, seed, bench, observer, log=log, bundle=out, checkpoints=checkpoints, group=group
        )
    group.wait()
    if group.leads:
        discard(checkpoints.folder)  # the bundle is safely there
    task, validation_labels = bench.task, bench.split("validation").labels
    threshold = task.fit_thresholds(validation_labels, outcome.validation)
    given = {"validation": (validation_labels, outcome.validation)}
    given["test"] = (bench.split("test").labels, outcome.test)
    scores = {name: task.evaluate(labels, found, threshold) for name, (labels, found) in given.items() if len(labels)}
    observer.measured({"event": "scores", "validation": None, "test": None, **scores})
    return scores
