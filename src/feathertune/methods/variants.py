"""A method under other options beside itself in one study, named by what differs: ``lora:top_layers=3``.

The name is a row of the table, so it says everything; several options are ``lora:r=16:top_layers=3``. Not for options
that a study has once for a method: those are ``method.lora.r`` of the settings.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from feathertune.config import read_value
from feathertune.errors import ConfigError
from feathertune.methods.base import Method
from feathertune.registry import Registry

_SEPARATOR = ":"


def plain_name(name: str) -> str:
    """The method that a name is of, without options."""
    return name.partition(_SEPARATOR)[0]


def options_in(name: str) -> dict[str, Any]:
    """The options that a name holds, their values read as YAML.

    Raises:
        ConfigError: If a part is not ``option=value``, or an option is there twice.
    """
    options: dict[str, Any] = {}
    for part in name.split(_SEPARATOR)[1:]:
        option, equals, value = (word.strip() for word in part.partition("="))
        if not (option and equals and value):
            raise ConfigError(
                f"Method '{name}': '{part}' is no option. Expected option=value, such as {plain_name(name)}:r=8, and "
                f"a '{_SEPARATOR}' before each."
            )
        if option in options:
            raise ConfigError(f"Method '{name}' says {option} twice. Leave one of them out.")
        options[option] = read_value(value, of=f"Method '{name}'")
    return options


def find_method(name: str, methods: Registry[Method]) -> Method:
    """The method of a name; with options in it, one that bears the whole name.

    Raises:
        UnknownNameError: If there is no such method.
        ConfigError: If it cannot be used.
    """
    method = methods[plain_name(name)]
    return method if method.name == name else dataclasses.replace(method, name=name)
