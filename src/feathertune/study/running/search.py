"""Search for a method's options on validation rows before its first run, with equally many trials for every method.

The first trial uses the defaults; Optuna proposes the rest. Each trial is a full training with seed 0 and is saved in
an SQLite file, so a killed search resumes there with the same proposals. The chosen validation score is optimistic.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feathertune.engine.training.loop import EpochInfo
from feathertune.errors import first_line
from feathertune.records import SearchRecord, TrialRecord
from feathertune.runtime import GLOBAL_STATE, stopwatch
from feathertune.storage import write_atomic
from feathertune.study.observe import Observer
from feathertune.study.run_spec import RunSpec
from feathertune.study.running.prepare import training_options
from feathertune.study.running.run_files import read_record
from feathertune.study.running.training import epoch_work
from feathertune.study.running.trial import all_rows, trial
from feathertune.study.running.workbench import Parts, Prepared, Workbench

if TYPE_CHECKING:
    import optuna

SEARCH_FOLDER = "search"
_SEED = 0
_RATE = "learning_rate"
# The key of a trial's own record in Optuna's file.
_RECORD = "record"


def search_id(spec: RunSpec) -> str:
    """Return a search's name: its runs' name without the seed."""
    return spec.id.removesuffix(f"-s{spec.seed}")


def read_search(spec: RunSpec, folder: Path) -> SearchRecord | None:
    """Return a run's finished search from the study folder, or None."""
    return read_record(_record_path(spec, folder), SearchRecord)


def search_work(spec: RunSpec, prepared: Prepared) -> float:
    """Return the maximum work of all trials, in forward passes of one text; 0 without a search."""
    if not spec.space:
        return 0.0
    bench, study = prepared.bench, prepared.study
    n_train = spec.train_rows or len(bench.encoded["train"])
    return study.config.study.search * study.config.train.epochs_on(n_train) * _epoch_work(bench, n_train)


def settle_options(spec: RunSpec, parts: Parts, folder: Path, observer: Observer) -> RunSpec:
    """Return a run with the options its search found; run the search first if necessary."""
    if not spec.space:
        return spec
    found = read_search(spec, folder) or search(spec, parts.of(spec, seed=_SEED), folder, observer)
    if found.chosen is None:
        return spec
    return spec.with_options(**found.trials[found.chosen].options)


def search(spec: RunSpec, prepared: Prepared, folder: Path, observer: Observer) -> SearchRecord:
    """Run or resume a search; write ``search/<id>.json`` after the last trial.

    The best trial has the highest primary validation score; ties go to the lowest log loss.
    """
    bench, n_trials = prepared.bench, prepared.study.config.study.search
    n_steps = prepared.study.config.train.steps_on(len(bench.encoded["train"]))
    spec = spec.with_options(**training_options(spec, bench, n_steps=n_steps).model_dump(mode="json"))
    path = _record_path(spec, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _opened(path.with_suffix(".db"), search_id(spec), n_trials) as trials:
        done = _done(trials)
        if done:
            observer.skipped(sum(one.epochs for one in done) * _epoch_work(bench))
        searching = _Searching(spec, prepared, observer)
        while len(done) < n_trials:
            done.append(searching.next(trials, done))
    found = SearchRecord(
        method=spec.row, train_rows=spec.train_rows, space=_bounds(spec), chosen=_best(done), trials=done
    )
    write_atomic(path, found.model_dump_json(indent=1) + "\n")
    return found


class _Searching:
    def __init__(self, spec: RunSpec, prepared: Prepared, observer: Observer) -> None:
        self._spec, self._prepared, self._observer = spec, prepared, observer
        self._n_trials = prepared.study.config.study.search
        self._parts = all_rows(prepared.bench)
        # Separate from the runs' cache, which includes the test rows.
        self._cache = prepared.bench.activations.empty()

    def next(self, trials: optuna.Study, done: list[TrialRecord]) -> TrialRecord:
        import optuna

        number = len(done)
        # Seeded by the trial number, so that a resumed search makes the same proposals.
        sampler = optuna.samplers.TPESampler(seed=number, n_startup_trials=max(3, self._n_trials // 3))
        now = {option: self._spec.options[option] for option in self._spec.space}
        trials.sampler = sampler if number else optuna.samplers.PartialFixedSampler(now, sampler)
        asked = trials.ask(_distributions(self._spec))
        record = self._try(asked, number)
        asked.set_user_attr(_RECORD, record.model_dump_json())
        states = optuna.trial.TrialState
        state = {"complete": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}[record.status]
        trials.tell(asked, record.score if state is states.COMPLETE else None, state=state)
        return record

    def _try(self, asked: optuna.Trial, number: int) -> TrialRecord:
        record = TrialRecord(number=number, options=asked.params, status="complete")
        said = f"trial {number + 1} of {self._n_trials}"
        work = _epoch_work(self._prepared.bench)

        def on_epoch(info: EpochInfo) -> bool:
            record.epochs += 1
            scores = info.validation
            assert scores is not None, "settings reject a search without validation rows"
            score = self._prepared.study.task.primary
            leading = score.of(scores)
            if info.is_best:
                record.score, record.log_loss = leading, scores.loss
            in_words = score.format.score(leading)
            self._observer.advanced(work, f"{said}, epoch {info.epoch}, validation {in_words}")
            asked.report(record.score or 0.0, step=info.epoch)
            if asked.should_prune():
                record.status = "pruned"
            return record.status != "pruned"

        self._observer.advanced(0.0, said)
        spec = self._spec.with_options(**asked.params).model_copy(update={"seed": _SEED})
        with GLOBAL_STATE, stopwatch() as watch:
            try:
                settings = self._prepared.study.config.train
                trial(spec, self._prepared, self._parts, settings=settings, cache=self._cache, on_epoch=on_epoch)
            except OSError:
                raise
            except Exception as error:  # a learning rate that makes training fail is a valid result
                record.status, record.error = "failed", f"{type(error).__name__}: {first_line(error)}"
        record.seconds = watch.seconds
        return record


def _epoch_work(bench: Workbench, n_train: int | None = None) -> float:
    return epoch_work(n_train or len(bench.encoded["train"]), len(bench.encoded["validation"]))


@contextlib.contextmanager
def _opened(path: Path, name: str, n_trials: int) -> Iterator[optuna.Study]:
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    try:
        yield optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=max(3, n_trials // 3)),
            load_if_exists=True,
        )
    finally:
        storage.remove_session()
        storage.engine.dispose()
        optuna.logging.set_verbosity(before)


def _done(study: optuna.Study) -> list[TrialRecord]:
    """Return the finished trials; a killed trial has no record and is repeated."""
    return [
        TrialRecord.model_validate_json(found.user_attrs[_RECORD])
        for found in study.trials
        if found.state.is_finished() and _RECORD in found.user_attrs
    ]


def _distributions(spec: RunSpec) -> dict[str, optuna.distributions.BaseDistribution]:
    import optuna

    return {
        option: optuna.distributions.FloatDistribution(values[0], values[-1], log=True)
        if option == _RATE
        else optuna.distributions.CategoricalDistribution(values)
        for option, values in _bounds(spec).items()
    }


def _bounds(spec: RunSpec) -> dict[str, list[Any]]:
    """Return the bounds of the learning rate, or an option's values, including the default."""
    found: dict[str, list[Any]] = {}
    for option, values in spec.space.items():
        every = [*values, *([] if spec.options[option] in values else [spec.options[option]])]
        if all(isinstance(value, int | float) for value in every):
            every.sort()
        found[option] = [every[0], every[-1]] if option == _RATE else every
    return found


def _best(done: list[TrialRecord]) -> int | None:
    whole = [one for one in done if one.status == "complete" and one.score is not None]
    if not whole:
        return None
    return max(whole, key=lambda one: (one.score or 0.0, -(one.log_loss or 0.0), -one.number)).number


def _record_path(spec: RunSpec, folder: Path) -> Path:
    return folder / SEARCH_FOLDER / f"{search_id(spec)}.json"
