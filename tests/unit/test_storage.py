import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from safetensors import SafetensorError

from feathertune import storage
from feathertune.errors import ConfigError
from feathertune.storage import locked, new_folder, put_in_place, sha256_of, system_errors, write_atomic


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


@pytest.mark.parametrize("broken", ["fsync", "fdopen", "open"])
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


def test_a_full_disk_under_safetensors_is_an_error_of_the_system():
    with pytest.raises(OSError, match="No space left") as caught, system_errors():
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match="No space left"), system_errors():
        raise Exception("No space left on device (os error 28)")
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


def test_two_writers_have_files_of_their_own_and_follow_no_link(tmp_path, monkeypatch):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    names = iter(("aaaa", "aaaa", "bbbb"))
    monkeypatch.setattr(storage.secrets, "token_hex", lambda _: next(names))
    (tmp_path / ".out.csv.aaaa.tmp").symlink_to(precious)
    descriptor, temporary = storage.open_new(tmp_path / "out.csv")
    os.close(descriptor)
    assert temporary.name == ".out.csv.bbbb.tmp"
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appeared_meanwhile_is_not_replaced(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(storage.os, "link", lambda *_: no_space())
    for name in ("first", "second"):
        (tmp_path / name).write_text(name)
    put_in_place(tmp_path / "first", tmp_path / "out", overwrite=False)
    with pytest.raises(FileExistsError):
        put_in_place(tmp_path / "second", tmp_path / "out", overwrite=False)
    assert (tmp_path / "out").read_text() == "first"
    put_in_place(tmp_path / "second", tmp_path / "out", overwrite=True)
    assert (tmp_path / "out").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_files_have_the_permissions_that_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "file", "x")
        with new_folder(tmp_path / "folder") as temporary:
            (temporary / "weights").touch(mode=0o600)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {"file": 0o640, "folder": 0o750, "weights": 0o640}


def test_a_name_that_fills_the_file_system_can_be_written(tmp_path):
    write_atomic(tmp_path / ("x" * 255), "content")
    with new_folder(tmp_path / ("y" * 255)) as temporary:
        (temporary / "a").write_text("1")
    assert sorted(len(path.name) for path in tmp_path.iterdir()) == [255, 255]


def test_one_thread_holds_a_lock_and_may_take_it_again(tmp_path):
    with ThreadPoolExecutor(1) as other:

        def elsewhere():
            with locked(tmp_path / "out"):
                return True

        with locked(tmp_path / "out"), locked(tmp_path / "out"):
            with pytest.raises(ConfigError, match="Another process"):
                other.submit(elsewhere).result()
            with locked(tmp_path / "else"):
                pass
        assert other.submit(elsewhere).result()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_dies_with_its_process(tmp_path):
    code = "import sys, os; from pathlib import Path; from feathertune.storage import locked\n"
    code += "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(ConfigError, match="Another process"), locked(tmp_path / "out"):
            pass
        holder.kill()
    with locked(tmp_path / "out"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("with_old", [True, False])
def test_what_a_killed_process_left_is_repaired(tmp_path, with_old):
    for name in (".out.0000.tmp", ".out.1111.old.tmp", ".another.2222.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(name)
    if not with_old:
        (tmp_path / "out").mkdir()
    with locked(tmp_path / "out"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"out", ".another.2222.tmp"}
    assert (tmp_path / "out" / "a").exists() == with_old


def test_a_file_of_a_killed_process_goes_and_that_of_a_living_one_stays(tmp_path):
    (tmp_path / ".out.csv.0000.tmp").write_text("half")
    (tmp_path / ".out.csv.0000.partial").write_text("rows that are kept")
    living, kept = storage.open_new(tmp_path / "out.csv")
    write_atomic(tmp_path / "out.csv", "whole")
    os.close(living)
    assert {path.name for path in tmp_path.iterdir()} == {"out.csv", kept.name, ".out.csv.0000.partial"}


def test_what_another_process_writes_under_a_longer_name_is_left_alone(tmp_path):
    others = {".out.v2.0000.tmp", ".out.v2.1111.old.tmp", ".out.csv.2222.tmp"}
    for name in others:
        (tmp_path / name).mkdir() if "v2" in name else (tmp_path / name).write_text("rows")
    with locked(tmp_path / "out"):
        pass
    write_atomic(tmp_path / "out", "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"out", *others}
