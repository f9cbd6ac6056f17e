"""A method's options put together from settings: what was said for all methods, for this one, and its own defaults.

Not for what an option means to an encoder: that is seen when a model is prepared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from feathertune.errors import ConfigError, complaint, nearest
from feathertune.methods.base import Method, Options
from feathertune.methods.variants import options_in, plain_name

# Methods that a message names at most.
_NAMED = 8


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
        settings: ``Config.method``: options for all methods, and a mapping of options under a method's name. A name
            with options, such as ``lora:top_layers=3``, has those of ``lora``, too.
        learning_rate: ``train.learning_rate``, for all methods; ``None`` means the method's own default.
        all_methods: Every known method by name, to tell names from options.

    Returns:
        The checked options: the method's defaults, then the rate, then what is set for all, for this one, and in its
        name.

    Raises:
        ConfigError: If an option is unknown or its value does not fit.
    """
    own: dict[str, Any] = {}
    for name in dict.fromkeys((plain_name(method.name), method.name)):
        found = settings.get(name) or {}
        if not isinstance(found, Mapping):
            raise ConfigError(f"Setting 'method.{name}' is {found!r}. Expected options, such as {{r: 8}}.")
        own |= found
    own |= options_in(method.name)
    shared = {key: value for key, value in settings.items() if plain_name(key) not in all_methods}
    values: dict[str, Any] = {} if learning_rate is None else {"learning_rate": learning_rate}
    values |= {key: value for key, value in shared.items() if key in method.options.model_fields}
    values |= own
    try:
        return method.options(**values)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # options that do not go together
            raise ConfigError(f"Options of method '{method.name}': {complaint(first['msg'])}.") from error
        key = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise ConfigError(
                f"Method '{method.name}' has no option '{key}'.{nearest(key, method.options.model_fields)}"
            ) from error
        raise ConfigError(
            f"Option '{key}' of method '{method.name}' is {first['input']!r}: {complaint(first['msg'])}."
        ) from error


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
        if plain_name(key) in all_methods:
            continue
        known = {field for method in chosen for field in method.options.model_fields}
        if key not in known:
            names = ", ".join(method.name for method in chosen[:_NAMED])
            more = f" and {len(chosen) - _NAMED} more" if len(chosen) > _NAMED else ""
            raise ConfigError(
                f"Setting 'method.{key}' is neither a method nor an option of the methods {names}{more}."
                f"{nearest(key, known | set(all_methods))}"
            )
