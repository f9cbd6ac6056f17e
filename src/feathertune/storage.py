"""Write files and folders whole or not at all: under a temporary name, synced, then renamed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from feathertune.errors import ConfigError

_CHUNK_BYTES = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, whole or not at all; its folder must exist."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a temporary folder; it replaces `path` only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    temporary.chmod(0o755)
    try:
        yield temporary
        for folder, _, files in os.walk(temporary):
            for file in files:
                _sync(Path(folder, file))
            _sync(Path(folder))
        _put_in_place(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _put_in_place(new: Path, path: Path) -> None:
    """Rename a complete folder to `path`, then delete the folder that was there: a crash loses neither."""
    old = new.with_name(f"{new.name.removesuffix('.tmp')}.old.tmp")
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


@contextlib.contextmanager
def system_errors() -> Iterator[None]:
    """Turn errors of safetensors that hide a system error, such as a full disk, into that `OSError`."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        if found := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
        raise


def is_temporary(path: Path) -> bool:
    """Return True for a leftover of a killed process."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


def check_place(path: Path, *, marker: str, overwrite: bool) -> None:
    """Check, before any work, that `new_folder` may put a folder here; raise a `ConfigError` if not."""
    with _told(path):
        _is_occupied(path, marker=marker, overwrite=overwrite)
        there = next(parent for parent in path.absolute().parents if parent.exists())
        with tempfile.TemporaryFile(dir=there):
            pass


def claim_folder(path: Path, *, marker: str, overwrite: bool, aside: Collection[str] = ()) -> None:
    """Make an output folder ready for writing; raise a `ConfigError` if it holds anything that may not be deleted.

    The `marker` file identifies an older result; files named in `aside` may exist before there is one.
    """
    with _told(path):
        if _is_occupied(path, marker=marker, overwrite=overwrite, aside=aside):
            shutil.rmtree(path)
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass


def write_output(path: Path, content: str | bytes, *, option: str, overwrite: bool) -> None:
    """Write a file that the user named by `option`, whole or not at all; raise a `ConfigError` if that fails."""
    if path.is_dir():
        raise ConfigError(f"The output {path} is a folder. Expected a file: give another {option}.")
    if path.exists() and not overwrite:
        raise ConfigError(f"The output {path} exists. Give another {option}, or --overwrite to replace it.")
    try:
        write_atomic(path, content)
    except OSError as error:
        raise ConfigError(
            f"The output {path} cannot be written: {error.strerror or error}. Give another {option}."
        ) from error


def _is_occupied(path: Path, *, marker: str, overwrite: bool, aside: Collection[str] = ()) -> bool:
    if path.exists() and not path.is_dir():
        raise ConfigError(f"The output {path} is a file. Expected a folder: give another --out.")
    if not path.is_dir() or all(is_temporary(entry) or entry.name in aside for entry in path.iterdir()):
        return False
    if not (path / marker).exists():
        raise ConfigError(
            f"The output folder {path} is not empty and was not written by feathertune (no {marker} in it). "
            "It is left alone: give another --out."
        )
    if not overwrite:
        raise ConfigError(
            f"The output folder {path} already holds a result. Give another --out, or --overwrite to replace it."
        )
    return True


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"The output folder {path} cannot be written: {error.strerror or error}. Give another --out."
        ) from error
