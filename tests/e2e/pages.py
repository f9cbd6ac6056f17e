"""The code blocks of ``docs/*.md``, and how a test runs them: made small, in their order, in one folder a page.

* ``sh``, and a block without a language of which a line begins with ``feathertune``: line by line, in this process.
* ``python``: in one namespace a page.
* ``toml``, ``yaml``, ``json``: parsed. ``text``, and any other block without a language: shown, not run.

A comment right above a block says what else is to be done with it::

    <!-- not run: WHY -->          it is not run
    <!-- file: PATH -->            it is written to that file, and compiled if it is Python

A block inside a comment is run as well, unseen by readers: what a page needs and does not show.

What is big is put in place or made small by the tables here, and nowhere else.
"""

from __future__ import annotations

import json
import re
import shlex
import tomllib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from e2e.cli import SMALL, Result

DOCS = Path(__file__).parents[2] / "docs"
# In commands and in Python alike; BASE is a tiny encoder in a folder.
PUT_IN_PLACE = {
    "google-bert/bert-base-cased": "BASE",
    "sample:minilm": "BASE",
    "sample:imdb": "reviews.csv",
    "sample:rotten-tomatoes": "reviews.csv",
    "hub:stanfordnlp/imdb": "reviews.csv",
    '"data.max_length": 128': '"data.max_length": 16',
    '"train.epochs": 3': '"train.epochs": 1',
    # Whoever installs the tests has this tracker alone.
    "--track tensorboard,mlflow": "--track tensorboard",
}
# The values of options that a command gives.
MADE_SMALL = {
    "--max-length": "16",
    "--epochs": "1",
    "--seeds": "1",
    "--shots": "4",
    "--search": "2",
    "--train-size": "30",
    "--train-sizes": "15,all",
}
# What is not ours to run, as the first word of a line.
OTHER_PROGRAMS = {
    "pip": "installs packages",
    "make": "the targets are the tests' own",
    "python": "a benchmark",
    "tensorboard": "serves until it is stopped",
    "torchrun": "several processes: tests/e2e/test_torchrun.py",
    "ray": "a cluster",
    "curl": "needs a server",
}
# Ours, and it does not come back.
SERVES = {"serve"}
_STUDIES = {"compare", "train", "inspect"}
_FENCE = re.compile(r"^```([\w+-]*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_ABOVE = re.compile(r"<!-- (not run|file): (.+?) -->\n\Z")


@dataclass(frozen=True)
class Block:
    """A fence of a page.

    Attributes:
        line: Where its code begins, in the page.
        not_run: Why not; None where it is.
        file: Where it is to be written; None where it is not.
    """

    page: str
    line: int
    language: str
    code: str
    not_run: str | None = None
    file: str | None = None

    @property
    def is_commands(self) -> bool:
        """Whether it is for a shell."""
        return self.language == "sh" or (
            not self.language and bool(re.search(r"^feathertune ", self.code, re.MULTILINE))
        )

    @property
    def is_run(self) -> bool:
        """Whether something happens that can fail."""
        return self.not_run is None and (self.is_commands or self.language == "python")


def blocks(page: Path) -> list[Block]:
    """All fences of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for fence in _FENCE.finditer(text):
        above = _ABOVE.search(text[: fence.start()])
        said = {above[1]: above[2]} if above else {}
        line = text.count("\n", 0, fence.start()) + 2
        found.append(Block(page.name, line, fence[1], fence[2], said.get("not run"), said.get("file")))
    return found


def commands(code: str) -> Iterator[str]:
    """The lines of a shell block, those that a backslash joins as one, without comments."""
    for line in code.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield shlex.join(words)


@dataclass
class Runner:
    """Runs the blocks of one page in the current folder.

    Attributes:
        base: A tiny encoder.
        feathertune: Runs a command.
        small: Whether the tables above are used; else everything is run as it stands.
    """

    base: Path
    feathertune: Callable[..., Result]
    small: bool = True
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})

    def run(self, block: Block) -> None:
        """Run a block; whatever goes wrong is raised."""
        if block.not_run is not None:
            return
        where = f"{block.page}:{block.line}"
        code = self.in_place(block.code)
        if block.file is not None:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(code, encoding="utf-8")
            if block.language == "python":
                compile(code, where, "exec")
        elif block.is_commands:
            for command in commands(code):
                self.command(command, where)
        elif block.language == "python":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # what PEFT and transformers have to tell each other
                # As many lines further down as the page has above it, so that a traceback names the page's own.
                exec(compile("\n" * (block.line - 1) + code, where, "exec"), self.names)
        elif block.language == "toml":
            tomllib.loads(code)
        elif block.language == "yaml":
            yaml.safe_load(code)
        elif block.language == "json":
            json.loads(code)
        else:
            assert block.language in ("", "text"), (
                f"{where}: say in {Path(__file__).name} how '{block.language}' is run"
            )

    def command(self, command: str, where: str) -> None:
        """Run a line of a shell block."""
        program, *words = shlex.split(command)
        if program in OTHER_PROGRAMS:
            return
        assert program == "feathertune", (
            f"{where}: '{program}' is not run: say why, above the block or in OTHER_PROGRAMS"
        )
        if words[0] in SERVES:
            return
        if self.small:
            words = self.made_small(words)
        result = self.feathertune(*words)
        assert result.code == 0, f"{where}: {command}\n{result.stderr}"

    def in_place(self, code: str) -> str:
        """The code with what is big replaced."""
        for big, small in PUT_IN_PLACE.items() if self.small else ():
            code = code.replace(big, small.replace("BASE", str(self.base)))
        return code

    def made_small(self, words: list[str]) -> list[str]:
        """The words of a command with less to do."""
        for index, option in enumerate(words[:-1]):
            if option in MADE_SMALL:
                words = [*words[: index + 1], MADE_SMALL[option], *words[index + 2 :]]
        if words[0] not in _STUDIES:
            return words
        base = [] if {"--base", "--config"} & set(words) else ["--base", str(self.base)]
        return [*words, *base, *SMALL]
