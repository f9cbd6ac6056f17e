"""Texts, labels and file names of others reach a terminal without control characters."""

import json
import os
import pty
import re
import sys

import pytest
from rich.text import Text

from e2e.cli import SMALL, in_process, reviews, write_csv
from feathertune.cli.output.tables import render, table_of
from feathertune.cli.output.terminal import printable

CLEAR = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202egnp"
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


def test_control_characters_are_spelled_out_and_letters_of_all_scripts_stay():
    assert printable("a\x1b[2Jb\x9b\u202ec\r") == "a\\x1b[2Jb\\x9b\\u202ec\\x0d"
    for text in ("é 日本語 עברית \u2068x\u2069", "two\nlines\tand a tab", "👩‍👩‍👧"):
        assert printable(text) == text


def test_a_table_holds_none(monkeypatch):
    table = table_of("label", "rows")
    table.add_row(Text(CLEAR), "1")
    for said in (render(table), render(CLEAR), render(Text(CLEAR))):
        assert not CONTROL.search(said)
        assert "\\x1b[2J" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", f"{CLEAR}.csv"),
        ("predict", f"/nowhere/{CLEAR}", "--text", "x"),
        ("train", "x.csv", "--out", "o", "--method", CLEAR),
        ("compare", "--set", f"{CLEAR}=1"),
        (f"{CLEAR}",),
        ("compare", f"--{CLEAR}"),
    ],
)
def test_an_error_holds_none(arguments, monkeypatch, capsys):
    result = in_process(monkeypatch, capsys, *arguments)
    assert result.code == 2
    assert "owned" in result.stderr
    assert not CONTROL.search(result.stderr + result.stdout)


def test_a_study_and_its_progress_hold_none(encoder, tmp_path, monkeypatch, capsys):
    labels = {"neg": f"bad{CLEAR}", "pos": "good"}
    rows = [(f"{text} {CLEAR}" if i == 3 else text, labels[label]) for i, (text, label) in enumerate(reviews(80))]
    path = write_csv(tmp_path / f"d{CLEAR.replace('/', '')}.csv", rows)
    command = ("compare", path, "--base", encoder, "--methods", "lora", *SMALL, "--out", tmp_path / "out")
    for result in (
        in_process(monkeypatch, capsys, *command),
        in_process(monkeypatch, capsys, "report", tmp_path / "out"),
        in_process(monkeypatch, capsys, "inspect", path, "--base", encoder, "--max-length", "16"),
    ):
        assert result.code == 0, result.stderr
        assert not CONTROL.search(result.stdout + result.stderr)
    bundle = next((tmp_path / "out").glob("runs/*/bundle"))
    said = in_process(monkeypatch, capsys, "predict", bundle, "--text", "a film")
    assert json.loads(said.stdout)["label"] in labels.values(), "what goes into a pipe is data"


def test_a_real_terminal_sees_colours_of_ours_alone():
    code = (
        "import sys\n"
        "from feathertune.cli.main import _streams\n"
        f"with _streams():\n    sys.stdout.write({CLEAR!r} + '\\x1b[1mbold\\x1b[0m'); sys.stdout.flush()\n"
    )
    leader, follower = pty.openpty()
    child = os.fork()
    if child == 0:
        os.dup2(follower, 1)
        sys.stdout = os.fdopen(1, "w")
        try:
            exec(code, {})
        finally:
            os._exit(0)
    os.close(follower)
    os.waitpid(child, 0)
    shown = os.read(leader, 10_000).decode()
    os.close(leader)
    assert shown.endswith("\x1b[1mbold\x1b[0m")
    assert not CONTROL.search(shown.replace("\x1b[1m", "").replace("\x1b[0m", ""))
