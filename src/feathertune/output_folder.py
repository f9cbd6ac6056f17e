"""Checks of output folders: which may be written, and which of their files feathertune may delete."""

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
    """A kind of output folder, recognized by a marker file with a JSON object that has these keys.

    Attributes:
        marker: Name of the marker file; its key ``files`` lists files of the folder.
        patterns: Globs of further files.
        inner: Globs of inner folders, each with its kind.
    """

    marker: str
    keys: tuple[str, ...]
    patterns: tuple[str, ...] = ()
    inner: tuple[tuple[str, FolderKind], ...] = ()

    def own_files(self, folder: Path) -> set[Path] | None:
        """Return the files that feathertune wrote, or None if the folder is not of this kind."""
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
        # Files behind a link to another folder are not ours.
        return {path for path in own if real_path(path.parent).is_relative_to(real_path(folder))}


def check_place(path: Path, kind: FolderKind, *, overwrite: bool) -> None:
    """Check before any work that `new_folder` may write here; raise a `ConfigError` if not."""
    with output_errors(path):
        if _is_occupied(path, kind, overwrite=overwrite):
            files = {file for file in path.rglob("*") if not file.is_dir() or file.is_symlink()}
            for file in sorted(files - (kind.own_files(path) or set())):
                if not is_temporary(file):
                    raise ConfigError(
                        f"The output folder {path} contains {file.relative_to(path)}, which feathertune did not write. "
                        "Nothing was changed. Move that file, or pass another --out."
                    )
        there = next(parent for parent in path.absolute().parents if parent.exists())
        with tempfile.TemporaryFile(dir=there):
            pass


@contextlib.contextmanager
def claimed(path: Path, kind: FolderKind, *, overwrite: bool) -> Iterator[None]:
    """Run `check_place` and lock the folder against other processes during the block."""
    with contextlib.ExitStack() as stack:
        with output_errors(path):
            stack.enter_context(locked(path))
            check_place(path, kind, overwrite=overwrite)
        yield


@contextlib.contextmanager
def writing_into(path: Path) -> Iterator[None]:
    """Lock a folder against other processes during the block; first delete temporary files of killed ones."""
    with contextlib.ExitStack() as stack:
        with output_errors(path):
            _check_folder(path)
            stack.enter_context(locked(path, inside=True))
            for entry in [*path.rglob(".*.tmp")]:
                delete(entry)
        yield


def claim_folder(path: Path, kind: FolderKind, *, overwrite: bool, aside: Collection[str] = ()) -> None:
    """Prepare an output folder for writing; raise a `ConfigError` if it holds another result or foreign files.

    Overwriting deletes only files that feathertune wrote. Files named in `aside` may exist before the marker does.
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
            f"The output folder {path} is not empty and was not written by feathertune (it has no valid "
            f"{kind.marker}). Nothing was changed. Pass another --out."
        )
    if not overwrite:
        raise ConfigError(
            f"The output folder {path} already holds a result. Pass another --out, or --overwrite to replace it."
        )
    return True


def _check_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise ConfigError(f"The output {path} is a file. Expected a folder. Pass another --out.")
    if path.parent == path.absolute():
        raise ConfigError(f"The output {path} is the root of the file system. Expected a folder inside it.")


def _delete_own(path: Path, kind: FolderKind) -> None:
    """Delete our files, the marker last: an interrupted deletion can be repeated."""
    marker = path / kind.marker
    own = (kind.own_files(path) or set()) | {entry for entry in path.rglob(".*") if is_temporary(entry)}
    for entry in sorted(own - {marker, path / LOCK}):
        delete(entry)
    emptied = {folder for entry in own for folder in entry.relative_to(path).parents}
    for folder in sorted(emptied - {Path()}, reverse=True):
        with contextlib.suppress(OSError):  # it holds a foreign file
            (path / folder).rmdir()
    marker.unlink()


def write_output(path: Path, content: str | bytes, *, option: str, overwrite: bool) -> None:
    """Write the file that the user named by `option`, atomically; raise a `ConfigError` if that fails."""
    with output_errors(path, option):
        check_output(path, option=option, overwrite=overwrite)
        write_atomic(path, content, overwrite=overwrite)


def check_output(path: Path, *, option: str, overwrite: bool) -> None:
    """Raise a `ConfigError` if the file may not be written."""
    if path.is_dir():
        raise ConfigError(f"The output {path} is a folder. Expected a file. Pass another {option}.")
    if not overwrite and (path.exists() or path.is_symlink()):
        raise ConfigError(f"The output {path} already exists. Pass another {option}, or --overwrite to replace it.")


@contextlib.contextmanager
def output_errors(path: Path, option: str = "--out") -> Iterator[None]:
    """Turn system errors in the block into a `ConfigError` about the output that the user named by `option`."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise ConfigError(f"The output {path} cannot be written: {why}. Pass another {option}.") from error
