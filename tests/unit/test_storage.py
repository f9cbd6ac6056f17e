import errno
import os

import pytest
from safetensors import SafetensorError

from feathertune import storage
from feathertune.errors import ConfigError
from feathertune.storage import check_place, claim_folder, new_folder, sha256_of, system_errors, write_atomic


def no_space(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_write_atomic_replaces_whole(tmp_path):
    path = tmp_path / "study.json"
    write_atomic(path, "old")
    write_atomic(path, "nëw")
    assert path.read_text(encoding="utf-8") == "nëw"
    assert [p.name for p in tmp_path.iterdir()] == ["study.json"]


def test_sha256_of_a_known_content(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("broken", ["fsync", "fdopen"])
def test_full_disk_keeps_the_old_file(tmp_path, monkeypatch, broken):
    path = tmp_path / "study.json"
    write_atomic(path, "old")
    monkeypatch.setattr(storage.os, broken, no_space)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["study.json"]


def test_new_folder_appears_only_when_complete(tmp_path):
    folder = tmp_path / "bundle"
    with new_folder(folder) as temporary:
        (temporary / "a").write_text("1")
        assert not folder.exists()

    def break_in_the_middle():
        with new_folder(folder) as temporary:
            (temporary / "b").write_text("2")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_in_the_middle()
    assert [p.name for p in folder.iterdir()] == ["a"]
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_claim_folder(tmp_path):
    fresh = tmp_path / "a" / "b"
    claim_folder(fresh, marker="plan.json", overwrite=False)
    assert fresh.is_dir()
    (fresh / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="was not written by feathertune"):
            claim_folder(fresh, marker="plan.json", overwrite=overwrite)
    (fresh / "plan.json").write_text("{}")
    with pytest.raises(ConfigError, match="--overwrite"):
        claim_folder(fresh, marker="plan.json", overwrite=False)
    assert (fresh / "notes.txt").exists()
    claim_folder(fresh, marker="plan.json", overwrite=True)
    assert list(fresh.iterdir()) == []


def test_check_place_refuses_as_claiming_does_and_deletes_nothing(tmp_path):
    older = tmp_path / "older"
    older.mkdir()
    (older / "plan.json").write_text("")
    with pytest.raises(ConfigError, match="already holds a result"):
        check_place(older, marker="plan.json", overwrite=False)
    check_place(older, marker="plan.json", overwrite=True)
    assert (older / "plan.json").exists()
    with pytest.raises(ConfigError, match="not written by feathertune"):
        check_place(older, marker="study.json", overwrite=True)
    with pytest.raises(ConfigError, match="is a file"):
        check_place(older / "plan.json", marker="plan.json", overwrite=True)
    with pytest.raises(ConfigError, match="cannot be written"):
        check_place(older / "plan.json" / "below", marker="plan.json", overwrite=False)
    check_place(tmp_path / "new" / "below", marker="plan.json", overwrite=False)
    assert not (tmp_path / "new").exists()


def test_what_a_killed_process_left_is_no_stranger(tmp_path):
    (tmp_path / ".plan.json.abc.tmp").write_text("half")
    claim_folder(tmp_path, marker="plan.json", overwrite=False)


def test_claim_folder_that_is_a_file_or_cannot_be_made(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        claim_folder(file, marker="plan.json", overwrite=True)
    with pytest.raises(ConfigError, match="cannot be written"):
        claim_folder(file / "below", marker="plan.json", overwrite=False)


def test_a_full_disk_under_safetensors_is_an_error_of_the_system():
    with pytest.raises(OSError, match="No space left") as caught, system_errors():
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(SafetensorError, match="header"), system_errors():
        raise SafetensorError("invalid header")


def test_a_folder_that_cannot_take_the_place_leaves_the_older_one(tmp_path, monkeypatch):
    folder = tmp_path / "bundle"
    with new_folder(folder) as temporary:
        (temporary / "a").write_text("old")
    real, calls = type(folder).replace, []

    def replace(path, target):
        calls.append(path.name)
        if len(calls) == 2:  # the old one is aside, the new one is about to get the name
            no_space()
        return real(path, target)

    monkeypatch.setattr(type(folder), "replace", replace)

    def fill():
        with new_folder(folder) as temporary:
            (temporary / "a").write_text("new")

    with pytest.raises(OSError, match="No space left"):
        fill()
    monkeypatch.undo()
    assert (folder / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    fill()
    assert (folder / "a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
