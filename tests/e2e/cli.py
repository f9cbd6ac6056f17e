"""Runs the command line as a person does: in a process of its own, or, where only messages matter, in this one."""

from __future__ import annotations

import csv
import os
import random
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.forked import Forked
from feathertune.cli import main

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
# Small enough for a tiny encoder to be trained in a second; the words are in its vocabulary.
SMALL = ["--max-length", "16", "--epochs", "2", "--set", "engine.dtype=fp32"]
# A label, and the word in a text that it follows from.
TAGS = {"praise": "great", "blame": "bad", "story": "plot", "cast": "actor"}


@dataclass
class Result:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str


def feathertune(*arguments: object, cwd: Path | None = None, stdin: str | None = None) -> Result:
    """Run in a process of its own."""
    return python("-m", "feathertune", *map(str, arguments), cwd=cwd, stdin=stdin)


def python(*arguments: str, cwd: Path | None = None, stdin: str | None = None) -> Result:
    """Run ``python ARGUMENTS`` in a process of its own."""
    process = Forked(arguments, env=ENVIRONMENT, cwd=cwd, stdin=stdin)
    stdout, stderr = process.communicate(240)
    return Result(process.wait(), stdout, stderr)


def in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> Result:
    """Run in this process, which has torch loaded already."""
    monkeypatch.setattr(sys, "argv", ["feathertune", *map(str, arguments)])
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as exit_:
            main()
    finally:
        signal.signal(signal.SIGTERM, before)
    captured = capsys.readouterr()
    return Result(int(exit_.value.code or 0), captured.out, captured.err)


def reviews(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """Texts that differ, and labels that follow from a word in them."""
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        label = ("neg", "pos")[i % 2]
        words = [rng.choice(["the", "film", "plot", "actors", "scene", "it", "was", "very"]) for _ in range(6)]
        words.insert(rng.randrange(6), {"neg": "bad", "pos": "great"}[label])
        rows.append((" ".join([*words, str(i)]), label))
    return rows


def tickets(n: int, seed: int = 0) -> list[tuple[str, list[str]]]:
    """Texts, and for each the tags whose word is in it; some have none."""
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        tags = [tag for tag, often in zip(TAGS, (0.5, 0.4, 0.4, 0.2), strict=True) if rng.random() < often]
        words = [rng.choice(["the", "film", "scene", "it", "was", "very"]) for _ in range(4)]
        words = [*words, *(TAGS[tag] for tag in tags)]
        rng.shuffle(words)
        rows.append((" ".join([*words, str(i)]), tags))
    return rows


def write_csv(path: Path, rows: list[tuple[str, str]], header: tuple[str, str] = ("text", "label")) -> Path:
    """Write rows with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path
