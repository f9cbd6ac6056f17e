"""`feathertune train` killed at random moments and resumed: the bundle is that of a run nobody disturbed."""

import itertools
import json
import random
import shutil
import signal
import subprocess
import time

import pytest
import torch

from e2e.cli import ENVIRONMENT, SMALL, feathertune, in_process
from e2e.forked import Forked
from feathertune.engine.training.checkpoint import existing

WEIGHTS = "adapter_model.safetensors"
# Each step costs a checkpoint: some seconds of training, nearly all of it spent between the files.
LONG = ["--epochs", "8", "--set", "train.patience=8", "--set", "train.learning_rate=0.01"]
EVERY_STEP = ["--set", "train.checkpoint_every_s=0"]


@pytest.fixture(autouse=True)
def one_thread():
    """As in the processes that are started here: sums depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def command(data, encoder, out):
    return ["train", data, "--base", encoder, *SMALL, *LONG, "--out", out]


def checkpoints_of(out):
    return out.parent / f".{out.name}.checkpoint"


@pytest.fixture(scope="module")
def undisturbed(encoder, data, tmp_path_factory):
    """Weights and scores of a run that writes no checkpoint at all."""
    out = tmp_path_factory.mktemp("undisturbed") / "bundle"
    result = feathertune(*command(data, encoder, out), "--set", "train.checkpoint_every_s=off", "--json")
    assert result.code == 0, result.stderr
    assert [path.name for path in out.parent.iterdir()] == ["bundle"]
    return (out / WEIGHTS).read_bytes(), json.loads(result.stdout)


def killed(arguments, folder, wait_s, *, early=False):
    """Kill a run some time after its start, or after its first checkpoint; whether it came to that."""
    before = existing(folder)
    process = Forked(["-m", "feathertune", *map(str, arguments)], env=ENVIRONMENT)
    try:
        while not early and existing(folder) == before and process.poll() is None:
            time.sleep(0.005)
        process.wait(wait_s)
    except subprocess.TimeoutExpired:
        pass  # as planned: it is killed now
    finally:
        process.kill()
        output = process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGKILL), output
    return process.returncode != 0


@pytest.fixture
def moments():
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed of the moments: {seed}")  # pytest shows it when the test fails
    return random.Random(seed)


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_killed_and_resumed_ends_with_the_same_bytes(
    moments, undisturbed, encoder, data, tmp_path, kills, monkeypatch, capsys
):
    weights, scores = undisturbed
    out = tmp_path / "bundle"
    arguments = [*command(data, encoder, out), *EVERY_STEP, "--resume", "--json"]
    left = kills
    while left:
        early = left % 4 == 0  # also while it loads
        if killed(arguments, checkpoints_of(out), moments.uniform(0, 6 if early else 0.5), early=early):
            left -= 1
        if (out / "manifest.json").exists():  # it came to its end: that counts too, and the rest is begun anew
            assert (out / WEIGHTS).read_bytes() == weights
            shutil.rmtree(out)
            shutil.rmtree(checkpoints_of(out), ignore_errors=True)
    result = in_process(monkeypatch, capsys, *arguments)
    assert result.code == 0, result.stderr
    assert (out / WEIGHTS).read_bytes() == weights
    assert json.loads(result.stdout) == scores
    assert not checkpoints_of(out).exists()


class Killed(BaseException):
    """Stops a run in this process as a signal would stop another: nothing of feathertune's catches it."""


@pytest.fixture
def stopped(encoder, data, tmp_path, monkeypatch, capsys):
    """A training that was stopped after seven of its steps: where it should have gone, and its command."""
    from feathertune.engine.training.loop import Training

    real = Training._step

    def step(training, passes):
        if training.position.steps_done == 7:
            raise Killed
        return real(training, passes)

    out = tmp_path / "bundle"
    arguments = command(data, encoder, out)
    with monkeypatch.context() as patched:
        patched.setattr(Training, "_step", step)
        with pytest.raises(Killed):
            in_process(patched, capsys, *arguments, *EVERY_STEP)
    capsys.readouterr()
    assert len(existing(checkpoints_of(out))) == 2
    return out, arguments


def test_what_is_said_of_a_training_that_was_stopped(stopped, monkeypatch, capsys):
    out, arguments = stopped
    folder = checkpoints_of(out)

    def run(*more):
        return in_process(monkeypatch, capsys, *arguments, *more)

    refused = run()
    assert refused.code == 2
    assert f"A training into {out} was interrupted; its last checkpoint is {folder}" in refused.stderr
    assert "--resume to continue from there, or --overwrite to start over" in refused.stderr
    both = run("--resume", "--overwrite")
    assert both.code == 2
    assert "Pass only one of them." in both.stderr
    other = run("--resume", "--set", "train.batch_size=8", "--seed", "3")
    assert other.code == 2
    assert "is from a different training" in other.stderr
    assert "seed: 0 there, 3 now" in other.stderr
    assert len(existing(folder)) == 2, "nothing was deleted"


def test_it_goes_on_from_the_older_one_where_the_newer_is_damaged(stopped, undisturbed, monkeypatch, capsys):
    out, arguments = stopped
    newer = existing(checkpoints_of(out))[-1]
    (newer / "optimizer.safetensors").write_bytes(b"")
    result = in_process(monkeypatch, capsys, *arguments, "--resume")
    assert result.code == 0, result.stderr
    assert f"The checkpoint {newer} is damaged: optimizer.safetensors has 0 bytes" in result.stderr
    assert "Using an older one." in result.stderr
    assert "Resuming after step 6, in epoch 2." in result.stderr
    assert (out / WEIGHTS).read_bytes() == undisturbed[0]
    assert not checkpoints_of(out).exists()


def test_it_is_refused_where_none_is_whole_and_overwrite_starts_anew(stopped, undisturbed, monkeypatch, capsys):
    out, arguments = stopped
    for path in existing(checkpoints_of(out)):
        (path / "state.json").unlink()
    refused = in_process(monkeypatch, capsys, *arguments, "--resume")
    assert refused.code == 2
    assert "state.json is missing" in refused.stderr
    assert "Delete that folder, or start over with --overwrite" in refused.stderr
    anew = in_process(monkeypatch, capsys, *arguments, "--overwrite")
    assert anew.code == 0, anew.stderr
    assert "Going on" not in anew.stderr
    assert (out / WEIGHTS).read_bytes() == undisturbed[0]
    assert not checkpoints_of(out).exists()


def test_with_nothing_to_resume_it_starts_and_says_so(encoder, data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "bundle"
    arguments = ("train", data, "--base", encoder, *SMALL, "--out", out, "--resume")
    result = in_process(monkeypatch, capsys, *arguments)
    assert result.code == 0, result.stderr
    folder = checkpoints_of(out)
    assert f"No checkpoint found in {folder}: starting from the beginning.\n" in result.stderr


def contents(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_a_finished_training_is_left_as_it_is(encoder, data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "bundle"
    arguments = ("train", data, "--base", encoder, *SMALL, "--out", out)
    first = in_process(monkeypatch, capsys, *arguments)
    assert first.code == 0, first.stderr
    before = contents(tmp_path)

    again = in_process(monkeypatch, capsys, *arguments, "--resume")
    assert again.code == 0, again.stderr
    assert f"The training into {out} is already finished. Nothing was changed." in again.stderr
    assert again.stdout == first.stdout
    as_json = in_process(monkeypatch, capsys, *arguments, "--resume", "--json")
    assert as_json.code == 0, as_json.stderr
    assert json.loads(as_json.stdout)["test"] == json.loads((out / "feathertune.json").read_text())["metrics"]["test"]

    for more, difference in (
        (("--method", "ia3"), "method: lora there, ia3 now"),
        (("--set", "train.batch_size=8"), "batch_size: 16 there, 8 now"),
    ):
        other = in_process(monkeypatch, capsys, *arguments, "--resume", *more)
        assert other.code == 2
        assert f"holds a finished bundle of another training ({difference})" in other.stderr
    without = in_process(monkeypatch, capsys, *arguments)
    assert without.code == 2
    assert "already holds a result" in without.stderr
    assert contents(tmp_path) == before


def test_a_damaged_bundle_is_not_called_finished(encoder, data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "bundle"
    arguments = ("train", data, "--base", encoder, *SMALL, "--out", out)
    assert in_process(monkeypatch, capsys, *arguments).code == 0
    (out / WEIGHTS).write_bytes(b"")
    before = contents(tmp_path)
    again = in_process(monkeypatch, capsys, *arguments, "--resume")
    assert again.code == 2
    assert f"{WEIGHTS} has 0 bytes" in again.stderr
    assert contents(tmp_path) == before


def test_a_training_that_breaks_names_its_last_checkpoint(encoder, data, tmp_path, monkeypatch, capsys):
    from feathertune.engine.training import loop

    real, steps = loop.add_gradient, itertools.count(1)

    def add_gradient(*args, **settings):
        loss, halvings = real(*args, **settings)
        return float("nan") if next(steps) == 4 else loss, halvings

    monkeypatch.setattr(loop, "add_gradient", add_gradient)
    out = tmp_path / "bundle"
    result = in_process(monkeypatch, capsys, *command(data, encoder, out), *EVERY_STEP)
    assert result.code == 1
    assert "The loss is nan at step 4 (epoch 1) with learning rate 0.01" in result.stderr
    last = existing(checkpoints_of(out))[-1]
    assert f"The last good state is in {last}" in result.stderr
    monkeypatch.undo()
    resumed = in_process(monkeypatch, capsys, *command(data, encoder, out), "--resume")
    assert resumed.code == 0, resumed.stderr
    assert "Resuming after step 3, in epoch 1." in resumed.stderr
