"""Checkpoints on disk: a training that is killed at any moment resumes from the last intact one. Two are kept.

Each is a folder with ``manifest.json`` (SHA-256 of each file and of itself), ``state.json`` (values and the training's
identity) and ``GROUP.safetensors``; it is renamed to its number when it is complete and synced.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from feathertune.engine.training.state import State, StateValues
from feathertune.errors import CheckpointError, first_line
from feathertune.records import first_differences
from feathertune.storage import difference, is_temporary, new_folder, sha256_of, system_errors, write_atomic

SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"
STATE_FILE = "state.json"
_TENSORS = ".safetensors"
_DIGITS = 9
# Largest share of the training's time that writing may take.
_MAX_SHARE = 0.05


class Checkpoints:
    """The checkpoints of one training, which resumes only with an equal `identity`; `last` is the newest intact one.

    `every_s` is the time between checkpoints, of which writing takes at most 5%; 0 means every step, ``None`` never.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], *, every_s: float | None) -> None:
        self.folder = folder
        self.last: Path | None = None
        self._identity: dict[str, Any] = json.loads(json.dumps(identity))  # as a file returns it
        self._every_s = every_s
        self._pause_s = every_s or 0.0
        self._written_at = time.monotonic()

    def find(self) -> list[str]:
        """Set `last`, and return a sentence for each damaged newer one; CheckpointError if none fits this training."""
        damages: list[str] = []
        found = existing(self.folder)
        for path in reversed(found):
            try:
                check(path)
            except CheckpointError as error:
                damages.append(str(error))
                continue
            self._require_same(path)
            self.last = path
            return damages
        if damages:
            raise CheckpointError(
                f"{damages[0]} No other checkpoint in {self.folder} is whole"
                f"{f' ({len(found)} were tried)' if len(found) > 1 else ''}. "
                "Delete that folder, or start anew with --overwrite and without --resume."
            )
        return []

    def load(self) -> State:
        """Read `last`; CheckpointError if there is none, or it is damaged."""
        if self.last is None:
            raise CheckpointError(f"There is no checkpoint in {self.folder}. Start without --resume.")
        return read(self.last)

    def offer(self, make_state: Callable[[], State], *, epoch_end: bool) -> None:
        """Write a checkpoint if it is due, as at an epoch's end; an OSError leaves existing ones intact."""
        start = time.monotonic()
        if self._every_s is None or not (epoch_end or start - self._written_at >= self._pause_s):
            return
        self.write(make_state())
        self._written_at = time.monotonic()
        if self._every_s > 0:
            self._pause_s = max(self._every_s, (self._written_at - start) / _MAX_SHARE)

    def write(self, state: State) -> Path:
        """Write a checkpoint, then delete all but it and the last intact one before it."""
        number = max((int(path.name) for path in existing(self.folder)), default=0) + 1
        path = self.folder / f"{number:0{_DIGITS}d}"
        write(path, state, self._identity)
        kept, self.last = (path, self.last), path
        _delete(self.folder, kept)
        return path

    def _require_same(self, path: Path) -> None:
        found = _read_json(path)["identity"]
        if found != self._identity:
            difference = first_differences(found, self._identity) or "other settings"
            raise CheckpointError(
                f"The checkpoint {path} belongs to another training ({difference}). "
                "Give the command that began it, or start anew with --overwrite and without --resume."
            )


def existing(folder: Path) -> list[Path]:
    """Return all checkpoints in a training's folder, intact or not, the newest last."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if re.fullmatch(rf"\d{{{_DIGITS}}}", path.name) and path.is_dir())


def discard(folder: Path) -> None:
    """Delete the checkpoints in a folder, and the folder if nothing else is in it."""
    if folder.is_dir():
        _delete(folder, kept=())
        with contextlib.suppress(OSError):  # not empty: what is left is not ours
            folder.rmdir()


def _delete(folder: Path, kept: tuple[Path | None, ...]) -> None:
    torn = [path for path in folder.iterdir() if is_temporary(path) and path.is_dir()]
    for path in [*torn, *existing(folder)]:
        if path not in kept:
            shutil.rmtree(path)


def write(path: Path, state: State, identity: Mapping[str, Any]) -> None:
    """Write one checkpoint, which appears at `path` once it is complete; an OSError leaves nothing behind."""
    with new_folder(path) as temporary:
        for group, tensors in state.tensors.items():
            on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            with system_errors():
                save_file(on_cpu, temporary / f"{group}{_TENSORS}")
        content = {"identity": identity, "values": state.values.model_dump()}
        (temporary / STATE_FILE).write_text(json.dumps(content), encoding="utf-8")
        files = {file.name: {"bytes": file.stat().st_size, "sha256": sha256_of(file)} for file in temporary.iterdir()}
        write_atomic(temporary / MANIFEST_FILE, _manifest(files))


def read(path: Path) -> State:
    """Read one checkpoint, its tensors on the CPU; CheckpointError if it is damaged."""
    check(path)
    tensors = {file.name.removesuffix(_TENSORS): load_file(file) for file in path.glob(f"*{_TENSORS}")}
    return State(tensors, StateValues.model_validate(_read_json(path)["values"]))


def check(path: Path) -> None:
    """Require the manifest and exactly its files, unchanged; CheckpointError if they are not."""
    try:
        listed = _listed(path)
        if what := difference(listed, {file.name: file for file in path.iterdir() if file.name != MANIFEST_FILE}):
            raise _damaged(path, what)
    except OSError as error:
        raise _damaged(path, f"it cannot be read ({first_line(error)})") from error


def _listed(path: Path) -> dict[str, dict[str, Any]]:
    """Return the manifest's files, if it is byte for byte the text that was written."""
    try:
        content = (path / MANIFEST_FILE).read_bytes()
    except FileNotFoundError:
        raise _damaged(path, f"{MANIFEST_FILE} is missing") from None
    try:
        files: dict[str, dict[str, Any]] = json.loads(content)["files"]
        if _manifest(files).encode() == content:
            return files
    except (ValueError, LookupError, TypeError):
        pass  # not JSON, or not of that form
    raise _damaged(path, f"{MANIFEST_FILE} was changed, cut short, or is of another version of feathertune")


def _manifest(files: Mapping[str, Mapping[str, Any]]) -> str:
    described = {"schema_version": SCHEMA_VERSION, "files": files}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    return json.dumps({**described, "sha256": digest}, sort_keys=True, indent=1) + "\n"


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"The checkpoint {path} is damaged: {what}.")


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
    return content
