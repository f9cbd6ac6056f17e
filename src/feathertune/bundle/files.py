"""What is in a bundle's folder, ``feathertune.json`` and the manifest, and whether any file was changed.

Not for what the files mean: that is `feathertune.bundle.load`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

import feathertune
from feathertune.errors import BundleError
from feathertune.records import Record
from feathertune.storage import sha256_of, write_atomic

SCHEMA_VERSION: Literal[1] = 1
INFO_FILE = "feathertune.json"
MANIFEST_FILE = "manifest.json"
CARD_FILE = "README.md"
BundleKind = Literal["peft", "part", "full"]
WEIGHTS: dict[BundleKind, str] = {
    "peft": "adapter_model.safetensors",
    "part": "trained.safetensors",
    "full": "model.safetensors",
}

R = TypeVar("R", bound=Record)


class BaseInfo(Record):
    """The encoder that was trained.

    Attributes:
        id: A hub id, or the name of a local folder.
        local: Path of that folder, relative to the bundle; null for an encoder of the hub.
    """

    id: str
    revision: str | None
    fingerprint: str
    local: str | None


class BundleInfo(Record):
    """What a classifier needs beside its weights; ``feathertune.json``.

    Attributes:
        kind: ``peft``: an adapter of PEFT's, on the base. ``part``: those parameters of the base that were trained.
            ``full``: all of them; it needs no base.
        labels: In the order of the logits.
        threshold: Probability from which a label is given; for several labels a text.
        temperature: What the logits are divided by before the softmax.
    """

    schema_version: Literal[1]
    kind: BundleKind
    method: str
    task: Literal["single_label", "multi_label"]
    labels: list[str] = Field(min_length=2)
    max_length: int
    text_columns: list[str]
    base: BaseInfo
    dtype: Literal["float32", "bfloat16"]
    threshold: float | None
    temperature: float | None
    metrics: dict[str, Any]
    hyperparameters: dict[str, Any]
    versions: dict[str, str]


class _File(Record):
    sha256: str
    bytes: int


class _Manifest(Record):
    schema_version: Literal[1]
    files: dict[str, _File]


def write_manifest(folder: Path) -> None:
    """Record every file of a bundle; the last thing to be written."""
    files = {name: _File(sha256=sha256_of(path), bytes=path.stat().st_size) for name, path in _files(folder).items()}
    write_atomic(
        folder / MANIFEST_FILE,
        _Manifest(schema_version=SCHEMA_VERSION, files=files).model_dump_json(indent=1) + "\n",
    )


def check_manifest(folder: Path) -> None:
    """Require exactly the files of the manifest, unchanged.

    Raises:
        BundleError: If the folder is no bundle, or a file is missing, changed or not its own.
    """
    if not folder.is_dir():
        raise BundleError(f"The bundle {folder} is not a folder. Expected what `feathertune train --out` wrote.")
    if not (folder / MANIFEST_FILE).is_file():
        raise BundleError(
            f"The folder {folder} is not a bundle: it holds no {MANIFEST_FILE}. "
            "Expected what `feathertune train --out` wrote."
        )
    listed = _parse(folder / MANIFEST_FILE, _Manifest).files
    present = _files(folder)
    if INFO_FILE not in listed:
        raise BundleError(f"The bundle {folder} is not whole: its manifest does not list {INFO_FILE}.")
    for name in sorted(listed.keys() | present.keys()):
        if name not in present:
            raise BundleError(f"The bundle {folder} is not whole: {name} is missing. Copy it again.")
        if name not in listed:
            raise BundleError(f"The bundle {folder} holds a file that is not its own: {name}. Take it out.")
        size = present[name].stat().st_size
        if size != listed[name].bytes:
            raise BundleError(
                f"The bundle {folder} is damaged: {name} has {size} bytes, expected {listed[name].bytes}. "
                "Copy it again."
            )
        if sha256_of(present[name]) != listed[name].sha256:
            raise BundleError(f"The bundle {folder} is damaged: the content of {name} was changed. Copy it again.")


def read_info(folder: Path) -> BundleInfo:
    """Read ``feathertune.json``.

    Raises:
        BundleError: If it is not one of this schema.
    """
    return _parse(folder / INFO_FILE, BundleInfo)


def _files(folder: Path) -> dict[str, Path]:
    """All files but the manifest, by their path; hidden ones (a hub's, an editor's) are not the bundle's."""
    found = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name.as_posix(): path
        for name, path in found.items()
        if name.as_posix() != MANIFEST_FILE and not any(part.startswith(".") for part in name.parts)
    }


def _parse(path: Path, record: type[R]) -> R:
    try:
        return record.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BundleError(
            f"{path} is not what feathertune {feathertune.__version__} writes (schema {SCHEMA_VERSION}): "
            f"{where}: {first['msg']}. It is damaged, or of another version."
        ) from error
