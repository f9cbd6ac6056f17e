"""Few labels: what a study does where no rows are kept for validation, and what it cannot do then.

Nothing says when to stop there, so that a training has a fixed number of steps (`train.min_steps`) and its last state
counts. What is chosen by validation rows is refused; baselines choose by cross-validation over the training rows
(`feathertune.baselines.linear`), and no temperature is found. Not where hundreds of labels are known: a tenth of them
is well spent on the choice of the best epoch.
"""

from __future__ import annotations

from collections.abc import Sequence

from feathertune.config import STEPS_WITHOUT_VALIDATION, Config
from feathertune.errors import ConfigError
from feathertune.methods import Method, Options
from feathertune.methods.targets import LayeredOptions


def settle_validation(config: Config, chosen: Sequence[tuple[Method, Options]]) -> Config:
    """Spell out whether rows are kept for validation, and how many steps a training has at least.

    Args:
        config: As the user gave it.
        chosen: The methods with their options.

    Raises:
        ConfigError: If rows are to be drawn in two ways, or something is asked for that needs validation rows.
    """
    data, train = config.data, config.train
    if data.shots is not None:
        _check_shots_are_all(config)
        data = data.model_copy(update={"validation_size": 0})
    none_kept = data.validation_size == 0
    if none_kept:
        _refuse_what_needs_rows(config, chosen)
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


def _refuse_what_needs_rows(config: Config, chosen: Sequence[tuple[Method, Options]]) -> None:
    why = "no rows are kept for validation (" + (
        f"--shots {config.data.shots}" if config.data.shots else "--validation-size 0"
    )
    if config.study.search:
        raise ConfigError(
            f"--search {config.study.search} finds options on validation rows, but {why}). Leave out the search, or "
            "keep rows for validation."
        )
    if config.train.decision == "moved":
        raise ConfigError(
            f"train.decision 'moved' fits its thresholds to validation rows, but {why}). Leave it out, or keep rows "
            "for validation."
        )
    for method, options in chosen:
        if isinstance(options, LayeredOptions) and options.top_layers == "auto":
            raise ConfigError(
                f"top_layers 'auto' of {method.name} is found by trainings on validation rows, but {why}). Give "
                "top_layers a number, or keep rows for validation."
            )
