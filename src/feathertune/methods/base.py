"""What a method is: a value with a name, options in PEFT's words, and a function that prepares a model.

One file holds one family and exports its values; `feathertune.methods` lists them. The engine never sees a method,
only the prepared model, in which exactly what shall move has ``requires_grad``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from feathertune.errors import ConfigError, nearest
from feathertune.records import Kind

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import nn

    from feathertune.encoders import LoadedEncoder


class Options(BaseModel):
    """Settings of a method, each with the method's own default. Subclasses add PEFT's words.

    Attributes:
        learning_rate: The highest rate; ``train.learning_rate`` sets it for all methods.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: float = Field(gt=0)


class TargetedOptions(Options):
    """Settings of a method that adapts linear layers.

    Attributes:
        target_modules: ``all-linear`` (every linear layer of the encoder's blocks), ``query-value``, or a list of
            module names as in PEFT (a full name, or its end after a dot).
        top_layers: Adapt only this many of the last blocks; null means all, ``auto`` the fewest that a short sweep on
            validation rows finds good enough. What comes before is frozen, so that it is computed once.
    """

    target_modules: Literal["all-linear", "query-value"] | list[str] = "all-linear"
    top_layers: Annotated[int, Field(ge=1)] | Literal["auto"] | None = None


@dataclass(frozen=True)
class Method:
    """A way to train an encoder and its head.

    Attributes:
        name: The word on the command line.
        kind: ``peft`` where an adapter is shipped, ``full`` where all weights are.
        summary: What it does, in a sentence.
        source: The paper.
        options: The class of its settings.
        prepare: Takes the encoder with an untrained head, the options and a seed, and returns the model to train:
            a ``PeftModel``, or the encoder's model itself. Only what shall move may have ``requires_grad``.
    """

    name: str
    kind: Kind
    summary: str
    source: str
    options: type[Options]
    prepare: Callable[[LoadedEncoder, Any, int], nn.Module]


def resolve_options(
    method: Method,
    settings: Mapping[str, Any],
    *,
    learning_rate: float | None,
    all_methods: Mapping[str, Method],
) -> Options:
    """Put a method's options together; the more special wins.

    Args:
        method: The method.
        settings: ``Config.method``: options for all methods, and a mapping of options under a method's name.
        learning_rate: ``train.learning_rate``, for all methods; ``None`` means the method's own default.
        all_methods: Every known method by name, to tell names from options.

    Returns:
        The checked options: the method's defaults, then the rate, then what is set for all, then for this one.

    Raises:
        ConfigError: If an option is unknown or its value does not fit.
    """
    own = settings.get(method.name) or {}
    if not isinstance(own, Mapping):
        raise ConfigError(f"Setting 'method.{method.name}' is {own!r}. Expected options, such as {{r: 8}}.")
    shared = {key: value for key, value in settings.items() if key not in all_methods}
    values: dict[str, Any] = {} if learning_rate is None else {"learning_rate": learning_rate}
    values |= {key: value for key, value in shared.items() if key in method.options.model_fields}
    values |= own
    try:
        return method.options(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise ConfigError(
                f"Method '{method.name}' has no option '{key}'.{nearest(key, method.options.model_fields)}"
            ) from error
        raise ConfigError(f"Option '{key}' of method '{method.name}' is {first['input']!r}: {first['msg']}.") from error


def check_shared_options(settings: Mapping[str, Any], chosen: list[Method], all_methods: Mapping[str, Method]) -> None:
    """Refuse a setting that would silently do nothing.

    Args:
        settings: ``Config.method``.
        chosen: The methods of this study.
        all_methods: Every known method by name.

    Raises:
        ConfigError: If an option set for all methods belongs to none of the chosen ones.
    """
    for key in settings:
        if key in all_methods:
            continue
        known = {field for method in chosen for field in method.options.model_fields}
        if key not in known:
            names = ", ".join(method.name for method in chosen)
            raise ConfigError(
                f"Setting 'method.{key}' is neither a method nor an option of the methods {names}."
                f"{nearest(key, known | set(all_methods))}"
            )


def adapt(encoder: LoadedEncoder, config: PeftConfig) -> nn.Module:
    """Wrap an encoder by PEFT; head and adapter are trained, the rest is not."""
    from peft import get_peft_model

    from feathertune.encoders import quiet_transformers

    with quiet_transformers():
        model: nn.Module = get_peft_model(encoder.model, config)
    return model


def target_names(encoder: LoadedEncoder, options: TargetedOptions) -> list[str]:
    """Full names of the linear layers to adapt.

    Args:
        encoder: The encoder.
        options: Their ``target_modules``.

    Returns:
        Names as in ``model.named_modules()``, in that order.

    Raises:
        ConfigError: If a given name fits no linear layer of the encoder's blocks, or there are not so many blocks.
    """
    if options.target_modules == "all-linear":
        names = list(encoder.linear_names())
    elif options.target_modules == "query-value":
        names = list(encoder.query_value_names())
    else:
        names = _named_targets(encoder, options.target_modules)
    if options.top_layers is None or options.top_layers == "auto":  # auto means all until a training has settled it
        return names
    return _in_top_layers(encoder, names, options.top_layers)


def _in_top_layers(encoder: LoadedEncoder, names: list[str], top_layers: int) -> list[str]:
    n_blocks = len(encoder.blocks)
    if encoder.spec.shared_blocks:
        raise ConfigError(
            f"top_layers is {top_layers}, but all layers of {encoder.id} share their weights: there is no last one to "
            "adapt alone. Leave top_layers out."
        )
    if top_layers > n_blocks:
        raise ConfigError(
            f"top_layers is {top_layers}, but {encoder.id} has {n_blocks} layers. Give at most {n_blocks}."
        )
    prefixes = tuple(f"{encoder.spec.blocks}.{index}." for index in range(n_blocks - top_layers, n_blocks))
    chosen = [name for name in names if name.startswith(prefixes)]
    if not chosen:
        raise ConfigError(f"target_modules: none of them is in the last {top_layers} layers of {encoder.id}.")
    return chosen


def _named_targets(encoder: LoadedEncoder, wanted_names: list[str]) -> list[str]:
    linears = list(encoder.linear_names())
    chosen: set[str] = set()
    for wanted in wanted_names:
        found = {name for name in linears if name == wanted or name.endswith(f".{wanted}")}
        if not found:
            ends = sorted({name.rsplit(".", 1)[-1] for name in linears})
            raise ConfigError(
                f"target_modules: '{wanted}' fits no linear layer of {encoder.id}.{nearest(wanted, ends)} "
                f"Full names look like {linears[0]}."
            )
        chosen |= found
    return [name for name in linears if name in chosen]
