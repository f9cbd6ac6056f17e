"""A study's method with its settings: options, sweep over depths, and options to search."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from feathertune.config import Config
from feathertune.errors import ConfigError, MissingExtraError
from feathertune.methods import Method, Options, choose_methods, options_in, plain_name
from feathertune.methods.targets import LayeredOptions
from feathertune.records.row_names import row_name
from feathertune.study.run_spec import RunSpec, run_id


@dataclass(frozen=True)
class PlannedMethod:
    """A method that will run, with the fields of its `RunSpec`; `off_budget` explains a size far from the budget."""

    method: Method
    options: Options
    base: str | None = None
    sweeps_depth: bool = False
    space: Mapping[str, list[Any]] = field(default_factory=dict)
    trains: int | None = None
    off_budget: str = ""
    notes: tuple[str, ...] = ()

    @property
    def row(self) -> str:
        """Name of the method's row."""
        return row_name(self.method.name, self.base)

    def run(self, seed: int, train_rows: int | None = None) -> RunSpec:
        """Return the method's run with a seed."""
        return RunSpec(
            id=run_id(self.row, train_rows, seed),
            method=self.method.name,
            base=self.base,
            kind=self.method.kind,
            seed=seed,
            train_rows=train_rows,
            options=self.method.given(self.options),
            sweeps_depth=self.sweeps_depth,
            trains=self.trains,
            notes=list(self.notes),
            space=dict(self.space),
        )


def planned_methods(config: Config) -> tuple[PlannedMethod, ...]:
    """Return the methods in the settings; raise a `ConfigError` if an option is invalid."""
    return tuple(
        PlannedMethod(
            method,
            options,
            sweeps_depth=isinstance(options, LayeredOptions) and options.top_layers == "auto",
            space=_space_of(config, method),
        )
        for method, options in choose_methods(
            config.study.methods, config.method, learning_rate=config.train.learning_rate
        )
    )


def _space_of(config: Config, method: Method) -> dict[str, list[Any]]:
    """Return the options in the method's search space that the user has not set."""
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


def check_can_search(trials: int, methods: Sequence[PlannedMethod]) -> None:
    """Reject a search without Optuna, or together with a sweep that chooses a method's number of layers."""
    if importlib.util.find_spec("optuna") is None:
        raise MissingExtraError("search", f"A search (study.search is {trials})")
    for planned in methods:
        if planned.sweeps_depth:
            raise ConfigError(
                f"top_layers 'auto' of {planned.method.name} cannot be combined with study.search ({trials}): both "
                "choose settings by their validation score. Set top_layers to a number."
            )
