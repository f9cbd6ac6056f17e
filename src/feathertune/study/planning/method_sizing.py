"""Match a study's methods to its base models: compatibility, size, and number of trained parameters.

A method named by the user must fit at least one base model. Otherwise, a method that does not fit is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from feathertune.config import Config
from feathertune.encoders import LoadedEncoder
from feathertune.errors import ConfigError, first_line
from feathertune.methods import ALL_METHODS, METHODS, options_in, plain_name
from feathertune.methods.sizes import matched, n_head, n_trained
from feathertune.records.row_names import method_of_row
from feathertune.study.observe import Observer
from feathertune.study.planning.planned_method import PlannedMethod

# A method is reported if its size differs from the budget by more than this share.
OFF_BUDGET = 0.25


@dataclass(frozen=True)
class Fit:
    """The methods that will run, and the reasons for leaving out the others."""

    methods: tuple[PlannedMethod, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    budget: int | None = None


def fit_methods(
    config: Config,
    methods: Sequence[PlannedMethod],
    encoder: LoadedEncoder,
    observer: Observer,
    *,
    base: str | None = None,
) -> Fit:
    """Size the methods for an unchanged encoder; raise a `ConfigError` if a method named by the user does not fit.

    `base` is the encoder's name in a study of several base models, for which `join_fits` raises that error instead.
    """
    budget = _parameters(config.study.match_parameters, encoder)
    observer.stage("sizing the methods" if budget is not None else "counting trained parameters")
    # Packages whose method failed to load.
    left_out = {name: f"{why}." for name, why in METHODS.broken.items()} if ALL_METHODS in config.study.methods else {}
    fitted = []
    for planned in (replace(one, base=base) for one in methods):
        must_fit = base is None and planned.method.name in config.study.methods
        if not must_fit and (why := planned.method.refusal(encoder)):
            left_out[planned.row] = f"{why}."
            continue
        try:
            fitted.append(_fit(planned, encoder, budget, config.data.max_length))
        except ConfigError as error:
            if must_fit:
                raise
            left_out[planned.row] = str(error)
    return Fit(tuple(fitted), left_out, budget)


def join_fits(config: Config, fits: Sequence[Fit]) -> Fit:
    """Join the methods of all base models; raise a `ConfigError` if a method named by the user fits none of them."""
    left_out = {row: why for fit in fits for row, why in fit.left_out.items()}
    methods = tuple(planned for fit in fits for planned in fit.methods)
    fitted = {planned.method.name for planned in methods}
    for row, why in left_out.items():
        if (name := method_of_row(row)) in config.study.methods and name not in fitted:
            raise ConfigError(f"Method '{name}' fits none of the {len(fits)} base models. {row}: {why}")
    return Fit(methods, left_out, fits[0].budget)


def check_sizes_are_free(config: Config, methods: Sequence[PlannedMethod]) -> None:
    """Reject sizes that are given or found by a sweep, because ``study.match_parameters`` would override them."""
    budget = config.study.match_parameters
    if len(config.base) > 1 and isinstance(budget, str):
        raise ConfigError(
            f"match_parameters is {budget}, but a share gives a different number on each of the {len(config.base)} "
            "base models. Pass a number of parameters, such as 70000."
        )
    for planned in methods:
        method = planned.method
        if method.size is None:
            continue
        option = method.size.option
        if option in options_in(method.name):
            raise ConfigError(
                f"Both the name {method.name} and match_parameters ({budget}) set the method's size. Leave one out."
            )
        own: Mapping[str, object] = config.method.get(plain_name(method.name)) or {}
        if option in own or option in config.method:
            key = f"method.{plain_name(method.name)}.{option}" if option in own else f"method.{option}"
            raise ConfigError(
                f"Both {key} and match_parameters ({budget}) set the size of {method.name}. Leave one of them out."
            )
        if planned.sweeps_depth:
            raise ConfigError(
                f"match_parameters is {budget}, but top_layers 'auto' finds the size of {method.name} by training. "
                "Set top_layers to a number, or leave one of them out."
            )


def _parameters(wanted: int | str | None, encoder: LoadedEncoder) -> int | None:
    if wanted is None:
        return None
    if isinstance(wanted, str):
        return max(1, round(float(wanted.removesuffix("%")) / 100 * encoder.n_parameters))
    if wanted > encoder.n_parameters:
        raise ConfigError(
            f"match_parameters is {wanted:,}, but {encoder.id} has only {encoder.n_parameters:,} parameters. "
            "Pass a smaller number, or a share such as 0.3%."
        )
    return wanted


def _fit(planned: PlannedMethod, encoder: LoadedEncoder, budget: int | None, max_length: int) -> PlannedMethod:
    method, options = planned.method, planned.options
    try:
        if budget is not None:
            options = matched(method, options, encoder, budget, max_length=max_length)
        trains = n_trained(method, options, encoder, max_length=max_length)
    except ConfigError:
        raise
    except Exception as error:  # a bug in the method: its run will fail, and the others continue
        return replace(planned, options=options, notes=(f"has an unknown size ({first_line(error)})",))
    fitted = replace(planned, options=options, trains=trains)
    if budget is None:
        return fitted
    without_head = trains - n_head(encoder)
    if abs(without_head - budget) <= OFF_BUDGET * budget:
        return fitted
    why = "its size is fixed" if method.size is None else f"no {method.size.option} comes closer"
    off = f"trains {without_head:,} parameters of the encoder; the budget is {budget:,}, but {why}"
    return replace(fitted, off_budget=off, notes=(off,))
