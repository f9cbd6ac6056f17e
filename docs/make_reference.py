"""Write ``docs/reference.md`` from the code: commands, options, settings, methods. Run by ``make docs``."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from typer.models import CommandInfo

from feathertune.baselines import BASELINES
from feathertune.cli.main import app
from feathertune.config import Config
from feathertune.methods import METHODS

PAGE = Path(__file__).with_name("reference.md")
_WORDS = {"int": "N", "float": "X", "Path": "PATH", "str": "TEXT"}
HEAD = """# Reference

Made by `make docs` from the code; do not edit.

"""


def reference() -> str:
    """Return the whole page."""
    return HEAD + "\n".join([commands(), settings(), methods()])


def commands() -> str:
    """Return each command with its arguments and options, from its function's signature."""
    lines = ["## Commands", ""]
    for words, command in _all_commands():
        function = command.callback
        assert function is not None, "every command has a function"
        lines += [f"### `feathertune {words}`", "", inspect.cleandoc(function.__doc__ or ""), ""]
        lines += ["| option | meaning |", "|---|---|"]
        for name, hint in get_type_hints(function, include_extras=True).items():
            for parameter in getattr(hint, "__metadata__", ()):
                declared = [word for word in (parameter.default, *(parameter.param_decls or ())) if _is_flag(word)]
                words = declared[0] if declared else parameter.metavar or name.upper()
                if declared and hint.__origin__ is not bool:
                    words += " " + (parameter.metavar or _value(hint.__origin__))
                lines.append(f"| `{words}` | {_cell(parameter.help)} |")
        lines.append("")
    return "\n".join(lines)


def _all_commands() -> Iterator[tuple[str, CommandInfo]]:
    """Yield each command with its name as typed; commands of a group come last."""
    for command in app.registered_commands:
        yield str(command.name), command
    for group in app.registered_groups:
        assert group.typer_instance is not None, "every group has its commands"
        for command in group.typer_instance.registered_commands:
            yield f"{group.name} {command.name}", command


def _is_flag(word: Any) -> bool:
    return isinstance(word, str) and word.startswith("--")


def _value(kind: Any) -> str:
    return next(word for key, word in _WORDS.items() if key in str(kind))


def settings() -> str:
    """Return each section of the settings with its defaults."""
    lines = ["## Settings", "", "Write them in a file for `--config`, or pass `--set section.key=value`.", ""]
    for name, field in Config.model_fields.items():
        kind = field.annotation
        if get_origin(kind) is tuple:  # one section, or a list of them
            kind = get_args(kind)[0]
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            lines += [f"### `{name}`", "", _summary(kind), "", *_fields(kind), ""]
    return "\n".join(lines)


def methods() -> str:
    """Return each method with its options, then the baselines."""
    lines = ["## Methods", ""]
    for method in METHODS:
        lines += [f"### `{method.name}`", "", f"{method.summary} Source: {method.source}.", ""]
        lines += [f"Set an option with `--set method.{method.name}.OPTION=VALUE`:", "", *_fields(method.options), ""]
    lines += [
        "## Baselines",
        "",
        "Every study runs the baselines.",
        "",
        "| name | description | source |",
        "|---|---|---|",
    ]
    lines += [f"| `{b.name}` | {b.summary} | {b.source} |" for b in BASELINES]
    return "\n".join([*lines, ""])


def _fields(model: type[BaseModel]) -> list[str]:
    meanings = _meanings(model)
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        default = json.dumps(field.default) if not isinstance(field.default, tuple) else json.dumps([*field.default])
        rows.append(f"| `{name}` | `{default}` | {_cell(meanings.get(name, ''))} |")
    return rows


def _summary(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__doc__ or "").partition("\n\n")[0].replace("\n", " ").replace("``", "`")


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return the meanings of a class's attributes, from its docstring and those of its bases."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        text = inspect.cleandoc(base.__doc__ or "")
        _, _, attributes = text.partition("Attributes:\n")
        for entry in re.split(r"\n(?= {4}\w+: )", "\n" + attributes):
            name, _, meaning = entry.strip().partition(": ")
            if meaning and name in model.model_fields:
                found[name] = " ".join(meaning.split())
    return found


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("``", "`").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
