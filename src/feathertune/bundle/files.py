"""A bundle's files: ``feathertune.json``, and the manifest that reveals changed files."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

import feathertune
from feathertune.errors import BundleError, first_line
from feathertune.input_files import state_of
from feathertune.output_folder import FolderKind
from feathertune.records import HEAD, LabelSummary, Reading, Record, TaskName
from feathertune.storage import difference, new_folder, sha256_of, write_atomic
from feathertune.tasks import TASKS

SCHEMA_VERSION: Literal[1] = 1
INFO_FILE = "feathertune.json"
MANIFEST_FILE = "manifest.json"
CARD_FILE = "README.md"
ADAPTER_CONFIG_FILE = "adapter_config.json"  # written by PEFT
BUNDLE = FolderKind(MANIFEST_FILE, keys=("schema_version", "files"))
BundleKind = Literal["peft", "part", "full"]
WEIGHTS: dict[BundleKind, str] = {
    "peft": "adapter_model.safetensors",
    "part": "trained.safetensors",
    "full": "model.safetensors",
}

R = TypeVar("R", bound=Record)


class BaseInfo(Record):
    """A bundle's base model.

    Attributes:
        id: Model id; ``REPOSITORY/NAME.gguf`` for a GGUF file on the hub, ``FOLDER/NAME.gguf`` for a local one.
        local: Path relative to the bundle; null for a model on the hub.
        settings: Special tokens missing from its configuration, such as a decoder's padding token.
    """

    id: str
    revision: str | None
    fingerprint: str
    local: str | None
    settings: dict[str, int] = Field(default_factory=dict)

    @property
    def gguf(self) -> str | None:
        """Name of the base model's GGUF file, or None."""
        parts = self.id.split("/")
        return parts[-1] if len(parts) == (3 if self.local is None else 2) and parts[-1].endswith(".gguf") else None

    @property
    def repository(self) -> str:
        """Repository id, or local folder name, that transformers reads."""
        return self.id.rpartition("/")[0] if self.gguf else self.id


class DataInfo(Record):
    """Summary of the training data, with the shares of truncated texts and unread tokens over all splits."""

    source: str
    n_train: int
    n_validation: int
    n_test: int
    truncated_fraction: float
    unread_fraction: float | None = None


class Probe(Record):
    """A probe text (a pair has two parts) with the logits of the bundle's model on the CPU, and of its word model."""

    texts: list[str] = Field(min_length=1, max_length=2)
    logits: list[float]
    words: list[float] | None = None


class FusionInfo(Record):
    """Weights of the model's and the word model's logits in their sum."""

    model: float
    words: float


class BundleInfo(Record):
    """Contents of ``feathertune.json``: everything a classifier needs in addition to its weights.

    Attributes:
        kind: ``peft``: a PEFT adapter. ``part``: the base model's trained parameters. ``full``: all parameters.
        labels: Label names in the order of the logits; one name for a bundle that predicts numbers.
        numbers: Summary of the training labels if they are numbers; null for classes.
        max_length: Maximum tokens per text or window; `reading` defines how longer texts are read.
        threshold: Minimum probability of each label; for single_label, divisor of each before taking the largest.
        fusion: Set if the bundle also has a word model, whose logits are added.
        trained: Sorted tensor names of a ``part``; null for other kinds.
        probes: Texts whose logits are checked when the bundle is loaded; empty only while it is being written.
    """

    schema_version: Literal[1]
    kind: BundleKind
    method: str
    task: TaskName
    labels: list[str] = Field(min_length=1)
    numbers: LabelSummary | None = None
    max_length: int = Field(ge=1)
    reading: Reading = HEAD
    text_columns: list[str] = Field(min_length=1, max_length=2)
    fusion: FusionInfo | None = None
    trained: list[str] | None = None
    data: DataInfo | None = None
    base: BaseInfo
    dtype: Literal["float32", "bfloat16"]
    threshold: list[float] | None
    label_separator: str | None = None
    metrics: dict[str, dict[str, int | float | None]]
    hyperparameters: dict[str, Any]
    versions: dict[str, str]
    probes: list[Probe] = Field(default_factory=list, max_length=16)

    @property
    def reads_pairs(self) -> bool:
        """True if each text is a pair."""
        return len(self.text_columns) == 2

    @property
    def imported(self) -> bool:
        """True if the adapter was trained with plain PEFT."""
        return "imported_from" in self.hyperparameters

    @property
    def logit_unit(self) -> float:
        """Divisor for a logit difference before it is compared with a tolerance."""
        if self.numbers is None:
            return 1.0
        # The model was trained on standard scores, and fp32 keeps only seven digits of large numbers.
        return (self.numbers.sd or 1.0) + 0.05 * max(abs(self.numbers.low), abs(self.numbers.high))

    @model_validator(mode="after")
    def _fits_together(self) -> BundleInfo:
        if (self.trained is not None) != (self.kind == "part"):
            raise ValueError(f"'trained' is for the kind 'part' only, which requires it; the kind is '{self.kind}'")
        is_number = TASKS[self.task].numbers
        if is_number != (len(self.labels) == 1) or is_number != (self.numbers is not None):
            raise ValueError(
                f"the task is {self.task} with {len(self.labels)} labels; expected two or more classes, or for "
                "regression one label and 'numbers'"
            )
        if len(set(self.labels)) < len(self.labels) or not all(label.strip() for label in self.labels):
            raise ValueError("labels are duplicated or empty; expected a different name for each")
        cuts = self.threshold
        if cuts is not None and (len(cuts) != len(self.labels) or not all(0 < cut <= 1 for cut in cuts)):
            raise ValueError(f"the thresholds are {cuts}; expected one per label, above 0 and at most 1")
        if not 0 <= self.reading.stride < self.max_length or self.reading.max_windows < 1:
            raise ValueError(f"{self.reading} is invalid with a max_length of {self.max_length}")
        return self


class _File(Record):
    sha256: str
    bytes: int


class _Manifest(Record):
    schema_version: Literal[1]
    files: dict[str, _File]


def write_files(folder: Path, files: Mapping[str, bytes], *, base: Path | None) -> None:
    """Write a bundle from its files' contents, and record a local `base`."""
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


def local_base(base: Path, folder: Path) -> str:
    """Return the relative path from a bundle to its base model, which stays valid if both move together."""
    return Path(os.path.relpath(base.expanduser().resolve(), folder.resolve())).as_posix()


def write_info(folder: Path, info: BundleInfo) -> None:
    """Write ``feathertune.json`` and the manifest of all files; write all other files first."""
    write_atomic(folder / INFO_FILE, info.model_dump_json(indent=1) + "\n")
    present = bundle_files(folder)
    files = {name: _File(sha256=sha256_of(path), bytes=path.stat().st_size) for name, path in present.items()}
    manifest = _Manifest(schema_version=SCHEMA_VERSION, files=files)
    write_atomic(folder / MANIFEST_FILE, manifest.model_dump_json(indent=1) + "\n")


Stamps = Mapping[str, tuple[int, ...]]


def check_manifest(folder: Path) -> Stamps:
    """Raise BundleError unless the folder holds exactly the manifest's files; return stamps for `check_unchanged`."""
    if not folder.is_dir():
        raise BundleError(f"The bundle {folder} is not a folder. Expected the output of `feathertune train --out`.")
    if not (folder / MANIFEST_FILE).is_file():
        hint = "Expected the output of `feathertune train --out`."
        if (folder / ADAPTER_CONFIG_FILE).is_file():
            hint = "It looks like a plain PEFT adapter; convert it with `feathertune import`."
        raise BundleError(f"The folder {folder} is not a bundle: it has no {MANIFEST_FILE}. {hint}")
    listed = _parse(folder / MANIFEST_FILE, _Manifest).model_dump()["files"]
    present = bundle_files(folder)
    stamps = _stamps(present)  # taken before hashing
    if what := difference(listed, present) or ("" if INFO_FILE in listed else f"{INFO_FILE} is missing"):
        raise BundleError(f"The bundle {folder} is damaged: {what}. Copy it again.")
    return stamps


def check_unchanged(folder: Path, stamps: Stamps) -> None:
    """Raise BundleError if a file was written or replaced since `check_manifest`."""
    found = _stamps(bundle_files(folder))
    if changed := [name for name in sorted(stamps.keys() | found.keys()) if stamps.get(name) != found.get(name)]:
        raise BundleError(f"The bundle {folder} changed while it was loaded: {changed[0]} was written. Load it again.")


def _stamps(files: Mapping[str, Path]) -> Stamps:
    return {name: state_of(path) for name, path in files.items()}


def read_info(folder: Path) -> BundleInfo:
    """Return the contents of ``feathertune.json``."""
    return _parse(folder / INFO_FILE, BundleInfo)


def bundle_files(folder: Path) -> dict[str, Path]:
    """Return the files that belong in the manifest, by relative path; hidden files are not part of a bundle."""
    found = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name.as_posix(): path
        for name, path in found.items()
        if name.as_posix() != MANIFEST_FILE and not any(part.startswith(".") for part in name.parts)
    }


def parse_json(content: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Parse UTF-8 JSON; raise ValueError if it is invalid, or has NaN, infinity or an integer over 64 bits."""

    def number(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(f"the number {text:.20} is not finite")
        return value

    def integer(text: str) -> int:
        if len(text) > 20 or abs(int(text)) >= 1 << 63:
            raise ValueError(f"the number {text:.20}... is too large")
        return int(text)

    try:
        return json.loads(content.decode("utf-8"), parse_float=number, parse_int=integer, parse_constant=number)
    except RecursionError as error:
        raise ValueError("the values are nested too deeply") from error


def read_object(path: Path) -> dict[str, Any]:
    """Return a JSON object from an adapter's file; raise BundleError if it is unreadable or not an object."""
    try:
        found = parse_json(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError(f"{path.name} is not a JSON object")
    except (OSError, ValueError) as error:
        raise BundleError(f"Cannot read the adapter {path.parent}: {first_line(error)}.") from error
    return found


def _parse(path: Path, record: type[R]) -> R:
    try:
        content = path.read_bytes()
        parse_json(content)
        return record.model_validate_json(content)
    except (OSError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": first_line(error)}
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BundleError(
            f"{path} does not match the format of feathertune {feathertune.__version__} (schema {SCHEMA_VERSION}): "
            f"{where}: {first['msg']}. It is damaged, or another version wrote it."
        ) from error
