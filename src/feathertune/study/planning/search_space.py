"""Which options of a method a search may change: those of its traits that nobody has given.

Not for the search itself, which needs torch and Optuna: `feathertune.study.running.search`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from feathertune.config import Config
from feathertune.errors import ConfigError, MissingExtraError
from feathertune.methods import Method, Options, options_in, plain_name
from feathertune.methods.targets import LayeredOptions


def space_of(config: Config, method: Method) -> dict[str, list[Any]]:
    """Values of each option that is searched; empty without a search.

    Args:
        config: The settings.
        method: The method, perhaps with options in its name.
    """
    if not config.study.search:
        return {}
    given = {*config.method, *options_in(method.name)}
    for name in (plain_name(method.name), method.name):
        own = config.method.get(name)
        given |= set(own) if isinstance(own, Mapping) else set()
    if config.train.learning_rate is not None:
        given.add("learning_rate")
    if config.study.match_parameters is not None and method.size is not None:
        given.add(method.size.option)
    return {option: list(values) for option, values in method.search_space.items() if option not in given}


def check_can_search(config: Config, chosen: Sequence[tuple[Method, Options]]) -> None:
    """Refuse a search that cannot be done.

    Raises:
        MissingExtraError: If Optuna is not installed.
        ConfigError: If the number of layers is left to a sweep.
    """
    if importlib.util.find_spec("optuna") is None:
        raise MissingExtraError("search", f"A search (study.search is {config.study.search})")
    for method, options in chosen:
        if isinstance(options, LayeredOptions) and options.top_layers == "auto":
            raise ConfigError(
                f"Both top_layers 'auto' of {method.name} and study.search ({config.study.search}) are found by "
                f"trainings on validation rows. Give top_layers a number."
            )
