"""Resolve a method's options from shared settings, the method's settings, its name and its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from feathertune.config import read_value
from feathertune.errors import ConfigError, complaint, nearest
from feathertune.methods.base import Method, Options

# Maximum methods listed in a message.
_NAMED = 8
_SEPARATOR = ":"
# Suffix of a method that is fused with a word model.
FUSED = "+tfidf"


def plain_name(name: str) -> str:
    """Return a name without options and the fusion suffix."""
    return name.removesuffix(FUSED).partition(_SEPARATOR)[0]


def is_fused(name: str) -> bool:
    """Return True for a name with the fusion suffix, such as ``lora:r=16+tfidf``."""
    return name.endswith(FUSED)


def without_options(name: str) -> str:
    """Return a name without its options."""
    return plain_name(name) + FUSED * is_fused(name)


def options_in(name: str) -> dict[str, Any]:
    """Return the options in a name such as ``lora:r=16:top_layers=3``; ConfigError if one is malformed."""
    options: dict[str, Any] = {}
    if "@" in name:
        raise ConfigError(f"Method '{name}' contains '@', which separates method and base in row names. Remove it.")
    for part in name.removesuffix(FUSED).split(_SEPARATOR)[1:]:
        option, equals, value = (word.strip() for word in part.partition("="))
        if not (option and equals and value):
            raise ConfigError(
                f"Method '{name}': '{part}' is not an option. Expected '{_SEPARATOR}' and option=value, e.g. "
                f"{plain_name(name)}:r=8."
            )
        if option in options:
            raise ConfigError(f"Method '{name}' sets {option} twice. Remove one of them.")
        options[option] = read_value(value, of=f"Method '{name}'")
    return options


def resolve_options(
    method: Method,
    settings: Mapping[str, Any],
    *,
    learning_rate: float | None,
    all_methods: Mapping[str, Method],
) -> Options:
    """Resolve options from `Config.method`, the name and the defaults; ConfigError for an unknown or invalid one."""
    own: dict[str, Any] = {}
    for name in dict.fromkeys((plain_name(method.name), method.name)):
        found = settings.get(name) or {}
        if not isinstance(found, Mapping):
            raise ConfigError(f"Setting 'method.{name}' is {found!r}. Expected options, e.g. {{r: 8}}.")
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
        if not first["loc"]:  # options that conflict
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
    """Raise a ConfigError for an option that is set for all methods but that none of the chosen ones has."""
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
