"""Load settings from defaults, a YAML file, ``--set`` and command-line options; later ones override earlier ones."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from feathertune.config.sections import Config
from feathertune.errors import ConfigError, complaint, nearest, shown
from feathertune.input_files import check_regular

# `feathertune compare` without DATA: takes about two minutes on two cores.
DEMO: dict[str, Any] = {
    "data": {
        "source": "sample:rotten-tomatoes",
        "train_size": 1500,
        "validation_size": 300,
        "test_size": 1500,
        "max_length": 64,
    },
    "study": {"methods": ["lora", "lora+tfidf", "full"]},
    "train": {"epochs": 3},
}


def demonstration(*, few_labels: bool) -> dict[str, Any]:
    """Return the demonstration's settings; `few_labels` drops the numbers of rows."""
    if not few_labels:
        return DEMO
    sizes = ("train_size", "validation_size")
    return {**DEMO, "data": {key: value for key, value in DEMO["data"].items() if key not in sizes}}


def load_config(
    path: Path | None = None,
    *,
    assignments: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Config:
    """Load settings; raise a `ConfigError` for an unknown key or an invalid value.

    Args:
        path: YAML file; overrides `defaults`.
        assignments: ``key=value`` with the value in YAML; override the file.
        options: Values by dotted key, None if not given; override all else.
        defaults: Nested values.
    """
    merged: dict[str, Any] = {}
    _merge(merged, defaults or {})
    if path is not None:
        _merge(merged, _read_yaml(path))
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set '{assignment}' has no '='. Expected KEY=VALUE, e.g. train.epochs=3.")
        _assign(merged, key.strip(), read_value(value, of=f"--set '{shown(assignment)}'"))
    for key, value in (options or {}).items():
        if value is not None:
            _assign(merged, key, value)
    return _validate(merged, path)


def read_value(text: str, *, of: str) -> Any:  # noqa: ANN401 - any YAML value
    """Parse a YAML value; raise a `ConfigError` that names `of` if it is not valid YAML."""
    try:
        return _number(read_yaml(text))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{of}: the value is not valid YAML ({_one_line(error)}).") from error


class _Loader(yaml.SafeLoader):
    """Refuse aliases: with them, a few lines can hold a value of any size, or one that contains itself."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401 - as in yaml
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*NAME), which is not supported")
        return super().compose_node(parent, index)


def read_yaml(text: str) -> Any:  # noqa: ANN401 - any YAML value
    """Parse YAML; aliases are refused."""
    return yaml.load(text, _Loader)


def _read_yaml(path: Path) -> dict[str, Any]:
    check_regular(path, ConfigError)
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The configuration {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"The configuration {path} is not valid YAML: {_one_line(error)}.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        expected = ", ".join(Config.model_fields)
        raise ConfigError(f"The configuration {path} is a {type(content).__name__}. Expected the keys {expected}.")
    return {str(key): _number(value) for key, value in content.items()}


def _number(value: Any) -> Any:  # noqa: ANN401 - any YAML value
    """Convert strings such as ``1e-3`` to numbers, which YAML 1.1 does not."""
    if isinstance(value, str):
        try:
            return float(value) if value[:1] in "+-.0123456789" and "e" in value.lower() else value
        except ValueError:
            return value
    if isinstance(value, dict):
        return {key: _number(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_number(item) for item in value]
    return value


def _merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        if key == "base" and isinstance(value, str):
            value = {"id": value}
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = copy.deepcopy(value)


def _assign(into: dict[str, Any], dotted: str, value: Any) -> None:  # noqa: ANN401 - any YAML value
    nested: dict[str, Any] = {}
    leaf = nested
    *parents, last = dotted.split(".")
    for parent in parents:
        leaf = leaf.setdefault(parent, {})
    leaf[last] = value
    _merge(into, nested)


def _validate(merged: Mapping[str, Any], path: Path | None) -> Config:
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        location = [part for part in first["loc"] if isinstance(part, str)]
        source = f" (from {path} or the command line)" if path else ""
        if first["type"] == "extra_forbidden":
            owner: Any = Config
            for part in location[:-1]:
                owner = owner.model_fields[part].annotation
                owner = owner if isinstance(owner, type) else get_args(owner)[0]  # of a list
            raise ConfigError(
                f"Unknown setting '{'.'.join(location)}'{source}.{nearest(location[-1], owner.model_fields)}"
            ) from error
        words = re.findall(r"'([^']*)'", first["ctx"]["expected"]) if first["type"] == "literal_error" else []
        raise ConfigError(
            f"Setting '{'.'.join(location)}'{source} is {shown(repr(first['input']))}: {complaint(first['msg'])}."
            f"{nearest(str(first['input']), words)}"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
