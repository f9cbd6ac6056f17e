"""The methods of a study as they fit its encoder: which can serve it, with which options, and how much each trains.

All of it is known once the encoder is loaded, and before anything is trained. What was named must fit; what was asked
for as one of ``all`` is left out where it does not, and the study says so. Not for options that are wrong whatever the
encoder is: `feathertune.methods.options` refuses those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from feathertune.config import Config
from feathertune.errors import ConfigError, first_line
from feathertune.methods import ALL_METHODS, METHODS, Method, Options, options_in, plain_name
from feathertune.methods.sizes import matched, n_head, n_trained
from feathertune.methods.targets import LayeredOptions

if TYPE_CHECKING:
    from feathertune.encoders import LoadedEncoder
    from feathertune.study.observe import Observer

# A method whose count differs by more than this from the budget is named: its row is no fair neighbour of the others.
OFF_BUDGET = 0.25


@dataclass(frozen=True)
class Fitted:
    """A method that will run.

    Attributes:
        trains: Parameters, those of the head among them; ``None`` where that is not known.
        off_budget: How far it is from the budget, where that is far; else nothing.
        notes: All that is to be said of its runs.
    """

    method: Method
    options: Options
    trains: int | None = None
    off_budget: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fit:
    """The methods that will run, and why others will not."""

    methods: tuple[Fitted, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    budget: int | None = None


def fit_methods(
    config: Config, chosen: Sequence[tuple[Method, Options]], encoder: LoadedEncoder, observer: Observer
) -> Fit:
    """Settle what depends on the encoder.

    Args:
        config: The settings.
        chosen: Methods with their options, as the settings say.
        encoder: As it was loaded; it is left as it is.
        observer: Is told what is being done.

    Returns:
        The methods with the options that they run with.

    Raises:
        ConfigError: If a method that was named does not fit the encoder, or the budget does not.
    """
    budget = _parameters(config.study.match_parameters, encoder)
    observer.stage("sizing the methods" if budget is not None else "looking at what the methods train")
    # Of packages whose method cannot even be loaded.
    left_out = {name: f"{why}." for name, why in METHODS.broken.items()} if ALL_METHODS in config.study.methods else {}
    fitted = []
    for method, options in chosen:
        named = method.name in config.study.methods
        if not named and (why := method.refusal(encoder)):
            left_out[method.name] = f"{why}."
            continue
        try:
            fitted.append(_fit(method, options, encoder, budget, config.data.max_length))
        except ConfigError as error:
            if named:
                raise
            left_out[method.name] = str(error)
    return Fit(tuple(fitted), left_out, budget)


def check_sizes_are_free(config: Config, chosen: Sequence[tuple[Method, Options]]) -> None:
    """Refuse options that ``study.match_parameters`` would overrule, and one that it cannot count with.

    Args:
        config: The settings, as the user gave them.
        chosen: The methods with their options.

    Raises:
        ConfigError: If a method's size is given, or the number of layers is left to a sweep.
    """
    budget = config.study.match_parameters
    for method, options in chosen:
        if method.size is None:
            continue
        option = method.size.option
        if option in options_in(method.name):
            raise ConfigError(
                f"Both the name {method.name} and match_parameters ({budget}) say how large it is. Leave one out."
            )
        own: Mapping[str, object] = config.method.get(plain_name(method.name)) or {}
        if option in own or option in config.method:
            key = f"method.{plain_name(method.name)}.{option}" if option in own else f"method.{option}"
            raise ConfigError(
                f"Both {key} and match_parameters ({budget}) say how large {method.name} is. Leave one of them out."
            )
        if isinstance(options, LayeredOptions) and options.top_layers == "auto":
            raise ConfigError(
                f"match_parameters is {budget}, but with top_layers 'auto' the number of layers, and with it the size "
                f"of {method.name}, is found by training. Give top_layers a number, or leave one of them out."
            )


def _parameters(wanted: int | str | None, encoder: LoadedEncoder) -> int | None:
    """A budget as a number of parameters."""
    if wanted is None:
        return None
    if isinstance(wanted, str):
        return max(1, round(float(wanted.removesuffix("%")) / 100 * encoder.n_parameters))
    if wanted > encoder.n_parameters:
        raise ConfigError(
            f"match_parameters is {wanted:,}, but {encoder.id} has {encoder.n_parameters:,} parameters in all. "
            "Give fewer, or a share such as 0.3%."
        )
    return wanted


def _fit(method: Method, options: Options, encoder: LoadedEncoder, budget: int | None, max_length: int) -> Fitted:
    try:
        if budget is not None:
            options = matched(method, options, encoder, budget, max_length=max_length)
        trains = n_trained(method, options, encoder, max_length=max_length)
    except ConfigError:
        raise
    except Exception as error:  # a defect of the method: its run will fail with it, and the others go on
        return Fitted(method, options, notes=(f"what it trains is not known ({first_line(error)})",))
    if budget is None:
        return Fitted(method, options, trains)
    beside_head = trains - n_head(encoder)
    if abs(beside_head - budget) <= OFF_BUDGET * budget:
        return Fitted(method, options, trains)
    why = "it has one size" if method.size is None else f"no {method.size.option} comes nearer"
    off = f"trains {beside_head:,} parameters of the encoder, the budget is {budget:,}: {why}"
    return Fitted(method, options, trains, off, (off,))
