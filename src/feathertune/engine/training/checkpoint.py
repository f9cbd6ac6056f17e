"""Training checkpoints on disk. A killed training resumes from the last intact one; the two newest are kept.

Each checkpoint is a folder with ``manifest.json`` (SHA-256 of each file and of itself), ``state.json`` (values and the
training's identity) and ``GROUP.safetensors``. It is renamed to its number once it is complete and synced.
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
# Largest share of training time spent on writing checkpoints.
_MAX_SHARE = 0.05


class Checkpoints:
    """Checkpoints of one training, which resumes only with an equal `identity`; `last` is the newest intact one.

    `every_s` is the time between checkpoints, raised if writing would take over 5% of it; 0 means every step, ``None``
    never.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], *, every_s: float | None) -> None:
        self.folder = folder
        self.last: Path | None = None
        self._identity: dict[str, Any] = json.loads(json.dumps(identity))  # as it is read back from a file
        self._every_s = every_s
        self._pause_s = every_s or 0.0
        self._written_at = time.monotonic()

    def find(self) -> list[str]:
        """Set `last` and return a sentence for each newer, damaged checkpoint.

        Raises:
            CheckpointError: If all checkpoints are damaged, or the newest intact one is from another training.
        """
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
                f"{damages[0]} No checkpoint in {self.folder} is intact"
                f"{f' ({len(found)} were tried)' if len(found) > 1 else ''}. "
                "Delete that folder, or start over with --overwrite instead of --resume."
            )
        return []

    def load(self) -> State:
        """Return the state in `last`; raise CheckpointError if it is missing or damaged."""
        if self.last is None:
            raise CheckpointError(f"{self.folder} has no checkpoint. Start without --resume.")
        return read(self.last)

    def offer(self, make_state: Callable[[], State], *, epoch_end: bool) -> None:
        """Write a checkpoint at an epoch's end or when it is due; an OSError leaves existing ones intact."""
        start = time.monotonic()
        if self._every_s is None or not (epoch_end or start - self._written_at >= self._pause_s):
            return
        self.write(make_state())
        self._written_at = time.monotonic()
        if self._every_s > 0:
            self._pause_s = max(self._every_s, (self._written_at - start) / _MAX_SHARE)

    def write(self, state: State) -> Path:
        """Write a checkpoint, then delete all others except the last intact one."""
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
                f"The checkpoint {path} is from a different training ({difference}). "
                "Repeat the command that started it, or start over with --overwrite instead of --resume."
            )


def existing(folder: Path) -> list[Path]:
    """Return all checkpoints in a training's folder, intact or not, newest last."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if re.fullmatch(rf"\d{{{_DIGITS}}}", path.name) and path.is_dir())


def discard(folder: Path) -> None:
    """Delete the checkpoints in a folder, and the folder itself if it is then empty."""
    if folder.is_dir():
        _delete(folder, kept=())
        with contextlib.suppress(OSError):  # not empty: the remaining files are not checkpoints
            folder.rmdir()


def _delete(folder: Path, kept: tuple[Path | None, ...]) -> None:
    torn = [path for path in folder.iterdir() if is_temporary(path) and path.is_dir()]
    for path in [*torn, *existing(folder)]:
        if path not in kept:
            shutil.rmtree(path)


def write(path: Path, state: State, identity: Mapping[str, Any]) -> None:
    """Write one checkpoint, which appears at `path` once it is complete; an OSError leaves no files behind."""
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
    """Return one checkpoint's state, with tensors on the CPU; raise CheckpointError if it is damaged."""
    check(path)
    tensors = {file.name.removesuffix(_TENSORS): load_file(file) for file in path.glob(f"*{_TENSORS}")}
    return State(tensors, StateValues.model_validate(_read_json(path)["values"]))


def check(path: Path) -> None:
    """Raise CheckpointError unless the folder holds exactly the manifest's files, unchanged."""
    try:
        listed = _listed(path)
        if what := difference(listed, {file.name: file for file in path.iterdir() if file.name != MANIFEST_FILE}):
            raise _damaged(path, what)
    except OSError as error:
        raise _damaged(path, f"it cannot be read ({first_line(error)})") from error


def _listed(path: Path) -> dict[str, dict[str, Any]]:
    """Return the manifest's files, if the manifest is byte for byte as written."""
    try:
        content = (path / MANIFEST_FILE).read_bytes()
    except FileNotFoundError:
        raise _damaged(path, f"{MANIFEST_FILE} is missing") from None
    try:
        files: dict[str, dict[str, Any]] = json.loads(content)["files"]
        if _manifest(files).encode() == content:
            return files
    except (ValueError, LookupError, TypeError):
        pass  # not JSON, or an unknown layout
    raise _damaged(path, f"{MANIFEST_FILE} was changed or truncated, or another version of feathertune wrote it")


def _manifest(files: Mapping[str, Mapping[str, Any]]) -> str:
    described = {"schema_version": SCHEMA_VERSION, "files": files}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    return json.dumps({**described, "sha256": digest}, sort_keys=True, indent=1) + "\n"


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"The checkpoint {path} is damaged: {what}.")


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
    return content
