"""What is in a bundle's folder, ``feathertune.json`` and the manifest, and whether any file was changed.

Not for what the files mean: that is `feathertune.bundle.load`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer, model_validator

import feathertune
from feathertune.errors import BundleError
from feathertune.records import HEAD, LabelSummary, Reading, Record, TaskName
from feathertune.storage import new_folder, sha256_of, write_atomic

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


class DataInfo(Record):
    """The labelled texts that it was trained on, as far as a reader of the scores must know them.

    Attributes:
        source: ``sample:NAME``, ``hub:NAME``, or the name of a file or folder, without its path.
        truncated_fraction: Share of all texts with more than ``max_length`` tokens, of any split.
        unread_fraction: Share of their tokens that were never read; null where it was not counted.
    """

    source: str
    n_train: int
    n_validation: int
    n_test: int
    truncated_fraction: float
    unread_fraction: float | None = None


class BundleInfo(Record):
    """What a classifier needs beside its weights; ``feathertune.json``.

    Attributes:
        kind: ``peft``: an adapter of PEFT's, on the base. ``part``: those parameters of the base that were trained.
            ``full``: all of them; it needs no base.
        labels: In the order of the logits; of numbers what they are called, one name.
        numbers: How the numbers of the training texts lie; not written where labels are classes.
        max_length: Tokens that are read at once.
        reading: What becomes of a longer text, as in training.
        text_columns: Where the texts stood in the data; two for pairs, which the encoder reads together.
        threshold: Of several labels a text the probability from which each is given; of one label what each probability
            is divided by before the largest is taken, null where it is taken as it is.
        label_separator: What stood between the labels of a text in the data; null where they were lists, or one a text.
        temperature: What the logits are divided by before the softmax.
        trained: Names of the tensors of a ``part``, sorted; of the other kinds PEFT and transformers say them.
    """

    schema_version: Literal[1]
    kind: BundleKind
    method: str
    task: TaskName
    labels: list[str] = Field(min_length=1)
    numbers: LabelSummary | None = None
    max_length: int
    reading: Reading = HEAD
    text_columns: list[str]
    trained: list[str] | None = None
    data: DataInfo | None = None
    base: BaseInfo
    dtype: Literal["float32", "bfloat16"]
    threshold: list[float] | None
    label_separator: str | None = None
    temperature: float | None
    metrics: dict[str, Any]
    hyperparameters: dict[str, Any]
    versions: dict[str, str]

    @property
    def reads_pairs(self) -> bool:
        """Whether each text is a pair."""
        return len(self.text_columns) == 2

    @model_validator(mode="after")
    def _says_what_is_a_part(self) -> BundleInfo:
        if (self.trained is not None) != (self.kind == "part"):
            raise ValueError(f"'trained' belongs to the kind 'part', and to no other; this is '{self.kind}'")
        is_number = self.task == "regression"
        if is_number != (len(self.labels) == 1) or is_number != (self.numbers is not None):
            raise ValueError(
                f"the task is {self.task}, with {len(self.labels)} labels; expected two at least of classes, and of "
                "numbers one, and how they lie"
            )
        if self.threshold is not None and len(self.threshold) != len(self.labels):
            raise ValueError(f"there are {len(self.threshold)} thresholds for {len(self.labels)} labels")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_of_numbers(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Bundles of classes stay what they were before labels could be numbers."""
        values: dict[str, Any] = dump(self)
        if self.numbers is None:
            values.pop("numbers", None)
        return values


class _File(Record):
    sha256: str
    bytes: int


class _Manifest(Record):
    schema_version: Literal[1]
    files: dict[str, _File]


def write_files(folder: Path, files: Mapping[str, bytes], *, base: Path | None) -> None:
    """Make a folder of a bundle that is held in memory.

    Args:
        folder: Where; it appears when it is whole, in the place of what stands there.
        files: Name and content, the manifest among them.
        base: Where the encoder lies, if it is a local folder; the bundle says so from then on.

    Raises:
        BundleError: If the files are not what the manifest says.
    """
    with new_folder(folder) as temporary:
        for name, content in files.items():
            place = temporary / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        check_manifest(temporary)
        if base is not None:
            info = read_info(temporary)
            found = info.base.model_copy(update={"local": local_base(base, folder)})
            write_info(temporary, info.model_copy(update={"base": found}))
            write_manifest(temporary)


def local_base(base: Path, folder: Path) -> str:
    """How a bundle names the folder of its encoder: by the way there, so that both can be moved together."""
    return Path(os.path.relpath(base.expanduser().resolve(), folder.resolve())).as_posix()


def write_info(folder: Path, info: BundleInfo) -> None:
    """Write ``feathertune.json``; the manifest is then to be written anew."""
    write_atomic(folder / INFO_FILE, info.model_dump_json(indent=1) + "\n")


def write_manifest(folder: Path) -> None:
    """Record every file of a bundle; the last thing to be written."""
    present = bundle_files(folder)
    files = {name: _File(sha256=sha256_of(path), bytes=path.stat().st_size) for name, path in present.items()}
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
        adapter = (folder / "adapter_config.json").is_file()
        hint = (
            " It looks like an adapter that plain PEFT wrote: `feathertune import` makes a bundle of one."
            if adapter
            else ""
        )
        raise BundleError(
            f"The folder {folder} is not a bundle: it holds no {MANIFEST_FILE}. "
            f"Expected what `feathertune train --out` wrote.{hint}"
        )
    listed = _parse(folder / MANIFEST_FILE, _Manifest).files
    present = bundle_files(folder)
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


def bundle_files(folder: Path) -> dict[str, Path]:
    """The files that a manifest lists, by their path; hidden ones (a hub's, an editor's) are not the bundle's."""
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
