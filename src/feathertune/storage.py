"""Writing so that a crash, a full disk or Ctrl-C leaves either the old state or the new one, never half.

Every file is written beside its place, synced and renamed; a folder likewise. Not for streams that a person may want
to read while they grow (``metrics.jsonl`` is appended, line by line).
"""

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
    """SHA-256 of a file's content, in hex."""
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
    """Write a file whole or not at all.

    Args:
        path: Where; its folder must exist.
        content: Text is written as UTF-8.

    Raises:
        OSError: As the system says it (a full disk, no right to write); the old file is untouched.
    """
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
    """Fill a folder under another name; it appears at `path` only when the block ends without an error.

    Args:
        path: Where the folder shall be; what stands there is put aside at the very end, and deleted after that.

    Yields:
        The temporary folder to write into.
    """
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
    """Give a whole folder its name; what had the name until then is deleted after that, so a crash loses neither."""
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
    """Give a full disk its own kind of error back: the writer of safetensors hides it in a text.

    Raises:
        OSError: For an error of the system during the block.
    """
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        if found := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
        raise


def is_temporary(path: Path) -> bool:
    """Whether a process that was killed left this behind while it wrote."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


def check_place(path: Path, *, marker: str, overwrite: bool) -> None:
    """See whether `new_folder` may put a folder here, before the work for it is done; nothing is changed.

    Args:
        path: The folder to be.
        marker: The file that shows that feathertune wrote what stands there.
        overwrite: Whether an older result may be replaced.

    Raises:
        ConfigError: If something stands there that may not be replaced, or nothing can be written beside it.
    """
    with _told(path):
        _is_occupied(path, marker=marker, overwrite=overwrite)
        there = next(parent for parent in path.absolute().parents if parent.exists())
        with tempfile.TemporaryFile(dir=there):
            pass


def claim_folder(path: Path, *, marker: str, overwrite: bool, aside: Collection[str] = ()) -> None:
    """Make an output folder ready to be written into, without ever deleting a stranger's files.

    Args:
        path: The folder; made where it is missing.
        marker: The file that shows that feathertune wrote this folder.
        overwrite: Whether an older result there may be deleted.
        aside: Names of files of ours that may lie there before the result does; alone they are none.

    Raises:
        ConfigError: If the folder holds something and may not be replaced, or cannot be written.
    """
    with _told(path):
        if _is_occupied(path, marker=marker, overwrite=overwrite, aside=aside):
            shutil.rmtree(path)
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass


def write_output(path: Path, content: str | bytes, *, option: str, overwrite: bool) -> None:
    """Write a file that the user named, whole or not at all.

    Args:
        path: Where; its folder must exist.
        content: Text is written as UTF-8.
        option: The option that named it, for messages, such as ``--output``.
        overwrite: Whether a file that stands there may be replaced.

    Raises:
        ConfigError: If something stands there that may not be replaced, or nothing can be written there.
    """
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
    """Whether an older result stands here that may go."""
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
    """Say which output folder an error of the system is about."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"The output folder {path} cannot be written: {error.strerror or error}. Give another --out."
        ) from error
