"""Checkpoints on disk: whole or refused, whatever was done to them and whenever the process was killed."""

import itertools
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from feathertune.engine.training.checkpoint import (
    MANIFEST_FILE,
    STATE_FILE,
    Checkpoints,
    check,
    discard,
    existing,
    read,
)
from feathertune.engine.training.state import Position, State, StateValues
from feathertune.errors import CheckpointError

IDENTITY = {"method": {"name": "lora", "r": 8}, "train": {"epochs": 3}, "seed": 0}
NO_GENERATORS = {"numpy": {}, "python": []}
GROUPS = ("parameters", "optimizer", "best")
FILES = (MANIFEST_FILE, STATE_FILE, *(f"{group}.safetensors" for group in GROUPS))


def state(number):
    tensors = {
        "parameters": {"a.weight": torch.full((3, 4), float(number)), "a.bias": torch.arange(3.0)},
        "optimizer": {"step:a.weight": torch.tensor(float(number))},
        "best": {},
    }
    return State(tensors, StateValues(position=Position(steps_done=number, loss_sum=1 / 3), generators=NO_GENERATORS))


def checkpoints(folder, identity=IDENTITY, every_s=0.0):
    return Checkpoints(folder, identity, every_s=every_s)


def number_of(checkpoint):
    found = read(checkpoint)
    assert torch.equal(
        found.tensors["parameters"]["a.weight"], torch.full((3, 4), float(found.values.position.steps_done))
    )
    return found.values.position.steps_done


@pytest.fixture
def folder(tmp_path):
    """Two checkpoints, of the states 1 and 2."""
    store = checkpoints(tmp_path / "c")
    for number in (1, 2):
        store.write(state(number))
    return store.folder


def test_what_is_written_comes_back_bit_for_bit(folder):
    store = checkpoints(folder)
    assert store.find() == []
    found, expected = store.load(), state(2)
    assert found.values == expected.values
    assert found.tensors.keys() == expected.tensors.keys()
    for group, tensors in expected.tensors.items():
        assert found.tensors[group].keys() == tensors.keys()
        for name, value in tensors.items():
            assert torch.equal(found.tensors[group][name], value)
            assert found.tensors[group][name].dtype == value.dtype
    assert {path.name for path in store.last.iterdir()} == set(FILES)


def test_the_last_two_are_kept(folder):
    store = checkpoints(folder)
    store.find()
    for number in (3, 4, 5):
        store.write(state(number))
    assert [number_of(path) for path in existing(folder)] == [4, 5]


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def truncate(path, size):
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_byte_is_found(folder, name):
    newest = existing(folder)[-1]
    whole = (newest / name).read_bytes()
    for place in range(len(whole)):
        flip(newest / name, place)
        with pytest.raises(CheckpointError, match=rf"{newest} is damaged: .*{name}.*changed"):
            check(newest)
        (newest / name).write_bytes(whole)
    check(newest)


@pytest.mark.parametrize("name", FILES)
def test_truncations_are_found(folder, name):
    newest = existing(folder)[-1]
    whole = (newest / name).read_bytes()
    for size in (*range(0, len(whole), 9), len(whole) - 1):
        truncate(newest / name, size)
        with pytest.raises(CheckpointError, match=name):
            check(newest)
        (newest / name).write_bytes(whole)


DAMAGES = {
    "flipped": lambda path: flip(path, path.stat().st_size // 2),
    "truncated": lambda path: truncate(path, path.stat().st_size // 2),
    "empty": lambda path: truncate(path, 0),
    "deleted": Path.unlink,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_passed_over_and_two_are_refused(folder, name, damage):
    old, new = existing(folder)
    DAMAGES[damage](new / name)
    store = checkpoints(folder)
    (said,) = store.find()
    assert str(new) in said
    assert name in said
    assert store.last == old
    assert store.load().values.position.steps_done == 1

    DAMAGES[damage](old / name)
    broken = checkpoints(folder)
    with pytest.raises(CheckpointError) as caught:
        broken.find()
    message = str(caught.value)
    assert str(new) in message
    assert "2 were tried" in message
    assert "Delete that folder, or start over" in message
    assert broken.last is None

    # Writing goes on, under a new name, and the damaged one is not counted among the two.
    store.write(state(3))
    assert [path.name[-1] for path in existing(folder)] == ["1", "3"]


def test_files_that_are_not_its_own_and_an_empty_folder_are_refused(folder):
    _, new = existing(folder)
    (new / "more.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"more\.safetensors is not one of its files"):
        check(new)
    shutil.rmtree(new)
    new.mkdir()
    with pytest.raises(CheckpointError, match=r"manifest\.json is missing"):
        check(new)


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b'{"files": 3}', b'{"files": {"a": 1}}', b"\xff\xfe", b"{"])
def test_a_manifest_of_any_form_is_refused(folder, content):
    _, new = existing(folder)
    (new / MANIFEST_FILE).write_bytes(content)
    with pytest.raises(CheckpointError, match="was changed or truncated, or another version"):
        check(new)


def test_another_training_is_refused_and_the_difference_named(folder):
    other = {**IDENTITY, "train": {"epochs": 5}, "method": {"name": "lora", "r": 4}}
    with pytest.raises(CheckpointError) as caught:
        checkpoints(folder, other).find()
    assert "method.r: 8 there, 4 now; train.epochs: 3 there, 5 now" in str(caught.value)
    assert "--overwrite" in str(caught.value)


def test_nothing_there(tmp_path):
    store = checkpoints(tmp_path / "none")
    assert store.find() == []
    assert store.last is None
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        store.load()
    discard(tmp_path / "none")


def test_discard_leaves_what_is_not_ours(folder):
    (folder / ".000000003.abc.tmp").mkdir()
    (folder / "notes.txt").write_text("mine")
    discard(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    (folder / "notes.txt").unlink()
    discard(folder)
    assert not folder.exists()


def test_killed_at_every_call_that_touches_the_disk(folder, tmp_path):
    """A child process is killed, as by the system, before its n-th sync, rename or deletion, for every n."""
    shutil.copytree(folder, tmp_path / "before")
    seen = set()
    for n in itertools.count():
        store = checkpoints(folder)
        store.find()
        child = os.fork()
        if child == 0:
            try:
                _die_at_call(n)
                store.write(state(3))
                os._exit(0)
            finally:
                os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, -signal.SIGKILL)
        after = checkpoints(folder)
        assert after.find() == []
        seen.add(number_of(after.last))
        after.write(state(4))
        assert [number_of(path) for path in existing(folder)] == [max(seen), 4]
        assert len(list(folder.iterdir())) == 2, "nothing half is left"
        if code == 0:
            break
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "before", folder)
    assert n > 10, "the calls were counted"
    assert seen == {2, 3}


def _die_at_call(n):
    calls = itertools.count()

    def counted(function):
        def run(*args, **kwargs):
            if next(calls) == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return run

    for name in ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))


def test_a_full_disk_leaves_the_old_ones(folder, monkeypatch):
    store = checkpoints(folder)
    store.find()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.write(state(3))
    monkeypatch.undo()
    assert [number_of(path) for path in existing(folder)] == [1, 2]
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(
    ("every_s", "expected"),
    # A clock that goes on by a second a step; each epoch has four steps.
    [(0.0, [1, 2, 3, 4, 4.5, 5, 6, 7, 8, 8.5]), (3.0, [3, 4.5, 8, 8.5]), (100.0, [4.5, 8.5]), (None, [])],
)
def test_when_one_is_written(tmp_path, monkeypatch, every_s, expected):
    now = [0.0]
    monkeypatch.setattr("feathertune.engine.training.checkpoint.time.monotonic", lambda: now[0])
    store = checkpoints(tmp_path / "c", every_s=every_s)
    written = []

    def make():
        written.append(now[0])
        return state(1)

    for step in range(1, 9):
        now[0] = float(step)
        store.offer(make, epoch_end=False)
        if step % 4 == 0:
            now[0] += 0.5
            store.offer(make, epoch_end=True)
    assert written == expected


def test_a_slow_disk_is_asked_more_seldom(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("feathertune.engine.training.checkpoint.time.monotonic", lambda: now[0])
    store = checkpoints(tmp_path / "c", every_s=1.0)
    real = store.write

    def slow(found):
        now[0] += 5.0
        return real(found)

    monkeypatch.setattr(store, "write", slow)
    written = 0
    for _ in range(300):
        now[0] += 1.0
        before = now[0]
        store.offer(lambda: state(1), epoch_end=False)
        written += now[0] != before
    assert 2 <= written <= 4
    assert 5 * written <= 0.05 * 300 + 5


def test_a_checkpoint_holds_no_pickle(folder):
    for path in existing(folder):
        assert {file.suffix for file in path.iterdir()} == {".json", ".safetensors"}
        json.loads((path / STATE_FILE).read_text())
