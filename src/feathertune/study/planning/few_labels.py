"""Few labels: a study without validation rows trains a fixed number of steps and keeps the last state."""

from __future__ import annotations

from collections.abc import Sequence

from feathertune.config import STEPS_WITHOUT_VALIDATION, Config
from feathertune.errors import ConfigError
from feathertune.study.planning.planned_method import PlannedMethod


def settle_validation(config: Config, methods: Sequence[PlannedMethod]) -> Config:
    """Spell out the validation size under ``data.shots`` and the minimum steps; refuse what needs validation rows."""
    data, train = config.data, config.train
    if data.shots is not None:
        _check_shots_are_all(config)
        data = data.model_copy(update={"validation_size": 0})
    none_kept = data.validation_size == 0
    if none_kept:
        _refuse_what_needs_rows(config, methods)
    if train.min_steps is None:
        train = train.model_copy(update={"min_steps": STEPS_WITHOUT_VALIDATION if none_kept else 0})
    return config.model_copy(update={"data": data, "train": train})


def _check_shots_are_all(config: Config) -> None:
    data, shots = config.data, config.data.shots
    if data.validation_size:
        raise ConfigError(
            f"--shots {shots} says how many rows of each class are known in all, so that none is left for validation, "
            f"but --validation-size is {data.validation_size:g}. Leave one of them out."
        )
    for option, given in (("--train-size", data.train_size), ("--train-sizes", config.study.train_sizes)):
        if given:
            raise ConfigError(f"Both --shots and {option} say how many rows are trained on. Leave one of them out.")


def _refuse_what_needs_rows(config: Config, methods: Sequence[PlannedMethod]) -> None:
    option = f"--shots {config.data.shots}" if config.data.shots else "--validation-size 0"
    refused = []
    if config.study.search:
        refused.append((f"--search {config.study.search} finds options on validation rows", "Leave out the search"))
    if config.train.decision == "moved":
        refused.append(("train.decision 'moved' fits its thresholds to validation rows", "Leave it out"))
    for planned in methods:
        if planned.sweeps_depth:
            what = f"top_layers 'auto' of {planned.method.name} is found by trainings on validation rows"
            refused.append((what, "Give top_layers a number"))
    for what, remedy in refused:
        raise ConfigError(
            f"{what}, but no rows are kept for validation ({option}). {remedy}, or keep rows for validation."
        )
