"""What docs/serving.md says is what runs: its commands, its calls of curl and its Python."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.cli import ENVIRONMENT, in_process
from feathertune.config import EngineConfig
from feathertune.methods import METHODS
from serving import listening
from trained import shipped
from whole import CPU

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")

from feathertune.serve.limits import Limits
from feathertune.serve.models import Models
from feathertune.serve.service import Service

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SHELL = [
    shlex.split(line) for kind, block in BLOCKS if kind == "sh" for line in block.replace("\\\n", " ").splitlines()
]
TOKEN = "a-long-secret"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the page's names lie."""
    for name, method in (("my-adapter", "lora"), ("other-adapter", "ia3")):
        (tmp_path / name).symlink_to(shipped("bert", METHODS[method])[0])
    (tmp_path / "token.txt").write_text(TOKEN + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def address(folder):
    models = Models(EngineConfig(dtype="fp32", device="cpu", memory="return"), CPU)
    models.add("sentiment", models.read(folder / "my-adapter"))
    with listening(Service(models, Limits(), TOKEN)) as address:
        yield address


def test_nothing_is_left_out():
    assert {kind for kind, _ in BLOCKS} == {"sh", "json", "python"}
    assert {words[0] for words in SHELL} == {"pip", "feathertune", "curl"}
    assert len(SHELL) == 6


def test_the_commands_start(folder, monkeypatch, capsys):
    answered = []
    monkeypatch.setattr("feathertune.serve.server.serve", lambda service, opened: answered.append(service))
    for words in SHELL:
        if words[0] == "feathertune":
            result = in_process(monkeypatch, capsys, *words[1:], "--port", "0")
            assert result.code == 0, result.stderr
            assert "Listening on http://127.0.0.1:" in result.stderr
    assert [[one.name for one in service.models.all()] for service in answered] == [
        ["sentiment", "other-adapter"],
        ["my-adapter"],
    ]
    assert [service.token for service in answered] == [None, TOKEN]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_calls_of_curl_work(address, folder):
    said = []
    for words in SHELL:
        if words[0] == "curl":
            call = [
                word.replace("http://127.0.0.1:8000", address).replace("$FEATHERTUNE_TOKEN", TOKEN) for word in words
            ]
            call += ["--silent", "--show-error", "--fail-with-body", "-H", f"Authorization: Bearer {TOKEN}"]
            done = subprocess.run(call, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, (call, done.stdout, done.stderr)
            said.append(done.stdout)
    predicted, added, removed = said
    shown = next(json.loads(block) for kind, block in BLOCKS if kind == "json")
    found = json.loads(predicted)
    assert found.keys() == shown.keys()
    assert len(found["predictions"]) == 2
    assert found["predictions"][0].keys() == shown["predictions"][0].keys()
    assert json.loads(added)["name"] == "third"
    assert removed == ""


def test_the_python_runs(address):
    (code,) = (block for kind, block in BLOCKS if kind == "python")
    code = code.replace("http://127.0.0.1:8000", address)
    code = code.replace('"Content-Type"', f'"Authorization": "Bearer {TOKEN}", "Content-Type"')
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    label, probability = done.stdout.split()
    assert label in ("no", "yes")
    assert 0.5 <= float(probability) <= 1
