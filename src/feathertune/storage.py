"""Write files and folders atomically: under a temporary name, synced, then renamed; one writer at a time."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from feathertune.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_CHUNK_BYTES = 1 << 20
_OLD, LOCK = ".old.tmp", ".lock"
# Errors of network file systems without locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_threads = threading.local()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def difference(listed: Mapping[str, Mapping[str, Any]], present: Mapping[str, Path]) -> str:
    """Return the first difference from a manifest with ``bytes`` and ``sha256``, as a clause; empty if none."""
    for name in sorted(listed.keys() | present.keys()):
        if name not in present:
            return f"{name} is missing"
        if name not in listed:
            return f"{name} is not one of its files"
        size, expected = present[name].stat().st_size, listed[name]["bytes"]
        if size != expected:
            return f"{name} has {size} bytes, expected {expected}"
        if sha256_of(present[name]) != listed[name]["sha256"]:
            return f"the content of {name} was changed"
    return ""


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_new(path: Path, suffix: str = ".tmp") -> tuple[int, Path]:
    """Open a new file next to `path` under a unique name, with default permissions.

    Two processes never get the same file, and links are not followed. Deletes such files of killed processes.
    """
    if fcntl is not None:
        for entry in _leftovers(path):
            if entry.is_file():
                _delete_unless_open(entry)
    while True:
        temporary = _temporary_name(path, suffix)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            if fcntl is not None:
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor, temporary


def _delete_unless_open(path: Path) -> None:
    """Delete a temporary file unless a process still has it open."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def put_in_place(temporary: Path, path: Path, *, overwrite: bool) -> None:
    """Rename a complete, synced file to `path`; FileExistsError if that exists and `overwrite` is false."""
    if overwrite:
        temporary.replace(path)
    else:
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
            temporary.replace(path)
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


def write_atomic(path: Path, content: str | bytes, *, overwrite: bool = True) -> None:
    """Write a file atomically, text as UTF-8; its folder must exist."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    descriptor, temporary = open_new(path)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        put_in_place(temporary, path, overwrite=overwrite)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder, which replaces `path` when the block ends without an error."""
    path = real_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_name(path)
    temporary.mkdir()
    try:
        yield temporary
        _settle(temporary)
        _replace_folder(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _settle(folder: Path) -> None:
    """Sync all files and give them the folder's permissions; some libraries create them for the user only."""
    mode = folder.stat().st_mode & 0o666
    for inner, _, files in os.walk(folder):
        for file in files:
            path = Path(inner, file)
            path.chmod(mode)
            _sync(path)
        _sync(Path(inner))


def _replace_folder(new: Path, path: Path) -> None:
    """Rename a complete folder to `path`, then delete the old folder; a crash loses neither."""
    old = _temporary_name(path, _OLD)
    if path.exists():
        path.replace(old)
    try:
        new.replace(path)
    except BaseException:
        if old.exists():
            old.replace(path)
        raise
    _sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def real_path(path: Path) -> Path:
    """Return the path with links resolved: output written to a link goes into the linked folder."""
    return Path(os.path.realpath(path))


def _temporary_name(path: Path, suffix: str = ".tmp") -> Path:
    return path.with_name(f"{_prefix(path)}{secrets.token_hex(4)}{suffix}")


def _leftovers(path: Path) -> list[Path]:
    """Return the temporary files and folders of `path`, but not those of ``bundle.v2`` for ``bundle``."""
    form = re.compile(re.escape(_prefix(path)) + r"[0-9a-f]+(\.old)?\.tmp")
    return [entry for entry in path.parent.iterdir() if form.fullmatch(entry.name)]


def _prefix(path: Path) -> str:
    # Shorten a long name to leave room for the suffix.
    return f".{os.fsdecode(os.fsencode(path.name)[:100])}."


@contextlib.contextmanager
def locked(path: Path, *, inside: bool = False) -> Iterator[None]:
    """Lock a folder against other processes and threads, after repairing what a killed process left.

    The lock is a file next to the folder, or `inside` it, and is released when the process ends. It is reentrant within
    a thread. Systems without ``fcntl`` have no lock.

    Raises:
        ConfigError: If another process or thread holds the lock.
        OSError: If the lock file cannot be created.
    """
    path = real_path(path)
    held: set[Path] = _threads.__dict__.setdefault("held", set())
    if path in held:
        yield
        return
    lock = path / LOCK if inside else path.with_name(f"{_prefix(path)}lock")
    new_parents = [parent for parent in lock.parents if not parent.exists()]
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _lock(lock, path)
    held.add(path)
    try:
        if not inside:
            _repair(path)
        yield
    finally:
        held.discard(path)
        lock.unlink(missing_ok=True)
        os.close(descriptor)
        with contextlib.suppress(OSError):  # something was written there
            for parent in new_parents:
                parent.rmdir()


def _lock(lock: Path, path: Path) -> int:
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The previous owner may have deleted the file between the two calls.
            if lock.exists() and os.path.samestat(os.fstat(descriptor), lock.stat()):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise ConfigError(
                f"Another process is writing to {path}. Wait for it to finish, or pass another --out."
            ) from None
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return descriptor
            os.close(descriptor)
            raise
        os.close(descriptor)


def _repair(path: Path) -> None:
    """Restore a folder whose replacement was interrupted, and delete other leftovers."""
    for entry in _leftovers(path):
        if entry.name.endswith(_OLD) and not path.exists():
            entry.replace(path)
        else:
            with contextlib.suppress(OSError):
                delete(entry)


def delete(entry: Path) -> None:
    """Delete a file, a link, or a folder with its contents."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)


@contextlib.contextmanager
def system_errors() -> Iterator[None]:
    """Turn errors of Rust libraries that wrap a system error, such as a full disk, into an `OSError`."""
    try:
        yield
    except Exception as error:  # safetensors has its own type, tokenizers raises a bare Exception
        if isinstance(error, OSError):
            raise
        if found := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
        raise


def is_temporary(path: Path) -> bool:
    """Return True for a temporary file or folder, and for a lock."""
    return path.name.startswith(".") and path.name.endswith((".tmp", ".lock"))
