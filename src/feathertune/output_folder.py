"""Output folders: whether one may be written, and which of its files are ours to delete."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from feathertune.errors import ConfigError
from feathertune.storage import LOCK, delete, is_temporary, locked, real_path, write_atomic


@dataclass(frozen=True)
class FolderKind:
    """A kind of output folder; a folder is one if its marker file holds a JSON object with these keys.

    Attributes:
        marker: Name of the marker file. The paths under its key ``files`` are files of the folder.
        patterns: Globs of further files.
        inner: Kinds of folders inside, by the glob of their paths.
    """

    marker: str
    keys: tuple[str, ...]
    patterns: tuple[str, ...] = ()
    inner: tuple[tuple[str, FolderKind], ...] = ()

    def own_files(self, folder: Path) -> set[Path] | None:
        """Return the files that feathertune wrote; None if the folder is not of this kind."""
        try:
            content: Any = json.loads((folder / self.marker).read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(content, dict) or not content.keys() >= set(self.keys):
            return None
        own = {path for pattern in (self.marker, *self.patterns) for path in folder.glob(pattern)}
        own |= {folder / name for name in content.get("files") or () if ".." not in PurePosixPath(name).parts}
        for pattern, kind in self.inner:
            own |= {path for inner in folder.glob(pattern) for path in kind.own_files(inner) or ()}
        # What lies behind a link to a folder is somebody else's.
        return {path for path in own if real_path(path.parent).is_relative_to(real_path(folder))}


def check_place(path: Path, kind: FolderKind, *, overwrite: bool) -> None:
    """Check, before any work, that `new_folder` may put a folder here; raise a `ConfigError` if not."""
    with output_errors(path):
        if _is_occupied(path, kind, overwrite=overwrite):
            files = {file for file in path.rglob("*") if not file.is_dir() or file.is_symlink()}
            for file in sorted(files - (kind.own_files(path) or set())):
                if not is_temporary(file):
                    raise ConfigError(
                        f"The output folder {path} holds {file.relative_to(path)}, which feathertune did not write. "
                        "It is left alone: move that file, or give another --out."
                    )
        there = next(parent for parent in path.absolute().parents if parent.exists())
        with tempfile.TemporaryFile(dir=there):
            pass


@contextlib.contextmanager
def claimed(path: Path, kind: FolderKind, *, overwrite: bool) -> Iterator[None]:
    """Hold a place for `new_folder` during the block: `check_place`, and no other process writes there."""
    with contextlib.ExitStack() as stack:
        with output_errors(path):
            stack.enter_context(locked(path))
            check_place(path, kind, overwrite=overwrite)
        yield


@contextlib.contextmanager
def writing_into(path: Path) -> Iterator[None]:
    """Keep other processes out of a folder during the block; what a killed one left half written is deleted."""
    with contextlib.ExitStack() as stack:
        with output_errors(path):
            _check_folder(path)
            stack.enter_context(locked(path, inside=True))
            for entry in [*path.rglob(".*.tmp")]:
                delete(entry)
        yield


def claim_folder(path: Path, kind: FolderKind, *, overwrite: bool, aside: Collection[str] = ()) -> None:
    """Make an output folder ready for writing; raise a `ConfigError` if it holds another result or none of ours.

    To overwrite, files that feathertune wrote are deleted, and no others. Files named in `aside` may exist before
    there is a marker.
    """
    with output_errors(path):
        if _is_occupied(path, kind, overwrite=overwrite, aside=aside):
            _delete_own(path, kind)
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass


def _is_occupied(path: Path, kind: FolderKind, *, overwrite: bool, aside: Collection[str] = ()) -> bool:
    _check_folder(path)
    if not path.is_dir() or all(is_temporary(entry) or entry.name in aside for entry in path.iterdir()):
        return False
    if kind.own_files(path) is None:
        raise ConfigError(
            f"The output folder {path} is not empty and was not written by feathertune (no {kind.marker} of ours in "
            "it). It is left alone: give another --out."
        )
    if not overwrite:
        raise ConfigError(
            f"The output folder {path} already holds a result. Give another --out, or --overwrite to replace it."
        )
    return True


def _check_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise ConfigError(f"The output {path} is a file. Expected a folder: give another --out.")
    if path.parent == path.absolute():
        raise ConfigError(f"The output {path} is the root of the file system. Expected a folder inside it.")


def _delete_own(path: Path, kind: FolderKind) -> None:
    """Delete our files, the marker last, so that a deletion that breaks off can be done again."""
    marker = path / kind.marker
    own = (kind.own_files(path) or set()) | {entry for entry in path.rglob(".*") if is_temporary(entry)}
    for entry in sorted(own - {marker, path / LOCK}):
        delete(entry)
    emptied = {folder for entry in own for folder in entry.relative_to(path).parents}
    for folder in sorted(emptied - {Path()}, reverse=True):
        with contextlib.suppress(OSError):  # somebody's file is in it
            (path / folder).rmdir()
    marker.unlink()


def write_output(path: Path, content: str | bytes, *, option: str, overwrite: bool) -> None:
    """Write a file that the user named by `option`, whole or not at all; raise a `ConfigError` if that fails."""
    with output_errors(path, option):
        check_output(path, option=option, overwrite=overwrite)
        write_atomic(path, content, overwrite=overwrite)


def check_output(path: Path, *, option: str, overwrite: bool) -> None:
    """Raise a `ConfigError` if a file may not be written there."""
    if path.is_dir():
        raise ConfigError(f"The output {path} is a folder. Expected a file: give another {option}.")
    if not overwrite and (path.exists() or path.is_symlink()):
        raise ConfigError(f"The output {path} exists. Give another {option}, or --overwrite to replace it.")


@contextlib.contextmanager
def output_errors(path: Path, option: str = "--out") -> Iterator[None]:
    """Turn a system error during the block into a `ConfigError` about the output that the user named by `option`."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise ConfigError(f"The output {path} cannot be written: {why}. Give another {option}.") from error
