"""Turn the user's settings into a study that can start; every setting is decided here, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from feathertune.baselines import BASELINES
from feathertune.config import STEPS_WITHOUT_VALIDATION, Config, TrainConfig
from feathertune.data.splitting.pool import settle_sizes
from feathertune.data.splitting.splits import DataSplits
from feathertune.errors import ConfigError
from feathertune.records import BaseRecord
from feathertune.study.planning.method_sizing import Fit, check_sizes_are_free
from feathertune.study.planning.plan import Plan, make_plan, runs_of_study
from feathertune.study.planning.planned_method import PlannedMethod, check_can_search, planned_methods
from feathertune.tasks import Task, task_of
from feathertune.tasks.losses import check_fits


@dataclass(frozen=True)
class Settled:
    """A study as far as its settings alone determine it, with ``method.NAME`` in the settings for each method."""

    config: Config
    methods: tuple[PlannedMethod, ...]


@dataclass(frozen=True)
class ResolvedStudy:
    """A study that can start: all settings, all runs, and the task with its primary metric."""

    plan: Plan
    task: Task

    @property
    def config(self) -> Config:
        """All settings, spelled out."""
        return self.plan.config

    def with_train(self, train: TrainConfig) -> ResolvedStudy:
        """Return the study with different training settings."""
        config = self.config.model_copy(update={"train": train})
        return replace(self, plan=self.plan.model_copy(update={"config": config}))


def settle(config: Config) -> Settled:
    """Resolve everything that depends only on the settings; raise a `ConfigError` if they contradict each other."""
    methods = planned_methods(config)
    config = settle_validation(config, methods)
    if config.study.match_parameters is not None:
        check_sizes_are_free(config, methods)
    if config.study.search:
        check_can_search(config.study.search, methods)
    spelled_out = {}
    for planned in methods:
        spelled = planned.method.given(planned.options)
        left_out = set(planned.space)
        if config.study.match_parameters is not None and planned.method.size is not None:
            left_out.add(planned.method.size.option)
        spelled_out[planned.method.name] = {name: value for name, value in spelled.items() if name not in left_out}
    names = tuple(name for name in dict.fromkeys(config.study.methods) if name not in BASELINES)
    study = config.study.model_copy(update={"methods": names})
    return Settled(config.model_copy(update={"method": spelled_out, "study": study}), methods)


def settle_validation(config: Config, methods: Sequence[PlannedMethod]) -> Config:
    """Set the validation size under ``data.shots`` and the minimum steps; reject settings that lack validation rows."""
    data, train = config.data, config.train
    if data.shots is not None:
        if data.validation_size:
            raise ConfigError(
                f"--shots {data.shots} uses all labelled rows for training, but --validation-size is "
                f"{data.validation_size:g}. Leave one of them out."
            )
        for option, given in (("--train-size", data.train_size), ("--train-sizes", config.study.train_sizes)):
            if given:
                raise ConfigError(f"Both --shots and {option} set the number of training rows. Leave one of them out.")
        data = data.model_copy(update={"validation_size": 0})
    none_kept = data.validation_size == 0
    if none_kept:
        _refuse_what_needs_rows(config, methods)
    if train.min_steps is None:
        train = train.model_copy(update={"min_steps": STEPS_WITHOUT_VALIDATION if none_kept else 0})
    return config.model_copy(update={"data": data, "train": train})


def _refuse_what_needs_rows(config: Config, methods: Sequence[PlannedMethod]) -> None:
    option = f"--shots {config.data.shots}" if config.data.shots else "--validation-size 0"
    refused = []
    if config.study.search:
        refused.append((f"--search {config.study.search} needs validation rows", "Leave out the search"))
    if config.train.decision == "moved":
        refused.append(("train.decision 'moved' needs validation rows for its thresholds", "Leave it out"))
    for planned in methods:
        if planned.sweeps_depth:
            what = f"top_layers 'auto' of {planned.method.name} needs validation rows"
            refused.append((what, "Set top_layers to a number"))
    for what, remedy in refused:
        raise ConfigError(f"{what}, but {option} keeps none. {remedy}, or keep some rows for validation.")


def decide_task(config: Config, splits: DataSplits, train_counts: Sequence[int]) -> Task:
    """Return the labels' task with its decision rule and metric; `train_counts` has the rows of each class."""
    task = task_of(splits.train.labels)
    check_fits(config.train, task)
    if config.data.shots is not None:
        splits.kind.check_shots(splits.train.labels, config.data.shots, splits.labels)
    return task.deciding(config.train.decision).ranked_by(config.study.metric, train_counts)


def resolve(
    settled: Settled,
    task: Task,
    splits: DataSplits,
    fit: Fit,
    bases: Sequence[BaseRecord],
    *,
    seed: int | None = None,
) -> ResolvedStudy:
    """Resolve everything that depends on data and base models, and list the runs; with a `seed`, one run per method."""
    study = settled.config.study.model_copy(update={"metric": task.primary.name})
    config = settled.config.model_copy(update={"study": study})
    n_rows, n_classes, shots = len(splits.train.labels), len(splits.labels), config.data.shots
    sizes = settle_sizes(study.train_sizes, n_rows=n_rows, n_classes=n_classes)
    if shots is not None:
        sizes = (shots * n_classes,)
    if seed is None:
        runs = runs_of_study(fit, study.seeds, bases=config.base_names, sizes=sizes, n_rows=n_rows)
    else:
        runs = [planned.run(seed) for planned in fit.methods]
    of_bases = ((base.fingerprint, base.tokenizer_fingerprint) for base in bases)
    content = (splits.fingerprint, *map(",".join, zip(*of_bases, strict=True)))
    return ResolvedStudy(make_plan(config, fit, runs, content=content), task)
