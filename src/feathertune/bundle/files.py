"""The files of a bundle: ``feathertune.json``, and the manifest that shows a changed file."""

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
ADAPTER_CONFIG_FILE = "adapter_config.json"  # of PEFT
BUNDLE = FolderKind(MANIFEST_FILE, keys=("schema_version", "files"))
BundleKind = Literal["peft", "part", "full"]
WEIGHTS: dict[BundleKind, str] = {
    "peft": "adapter_model.safetensors",
    "part": "trained.safetensors",
    "full": "model.safetensors",
}

R = TypeVar("R", bound=Record)


class BaseInfo(Record):
    """The base model.

    Attributes:
        id: Of a GGUF file ``REPOSITORY/NAME.gguf``, of a local one ``FOLDER/NAME.gguf``.
        local: Its path relative to the bundle; null for a model of the hub.
        settings: Special tokens that its own configuration lacks, such as a decoder's padding token.
    """

    id: str
    revision: str | None
    fingerprint: str
    local: str | None
    settings: dict[str, int] = Field(default_factory=dict)

    @property
    def gguf(self) -> str | None:
        """Name of the GGUF file that is the base model."""
        parts = self.id.split("/")
        return parts[-1] if len(parts) == (3 if self.local is None else 2) and parts[-1].endswith(".gguf") else None

    @property
    def repository(self) -> str:
        """Id of the repository, or name of the local folder, that transformers reads."""
        return self.id.rpartition("/")[0] if self.gguf else self.id


class DataInfo(Record):
    """The labelled texts of the training, with the shares of truncated texts and of unread tokens in all splits."""

    source: str
    n_train: int
    n_validation: int
    n_test: int
    truncated_fraction: float
    unread_fraction: float | None = None


class Probe(Record):
    """A text (a pair has two parts) with the logits of the written bundle's model on the CPU, and of its word model."""

    texts: list[str] = Field(min_length=1, max_length=2)
    logits: list[float]
    words: list[float] | None = None


class FusionInfo(Record):
    """Weights of the model's logits and of the word model's in their sum."""

    model: float
    words: float


class BundleInfo(Record):
    """What a classifier needs in addition to its weights; ``feathertune.json``.

    Attributes:
        kind: ``peft``: a PEFT adapter. ``part``: the trained parameters of the base model. ``full``: all parameters.
        labels: In the order of the logits; one name for a bundle that predicts numbers.
        numbers: Summary of the training numbers; null for classes.
        max_length: Tokens that are read at once; `reading` is the treatment of longer texts.
        threshold: Least probability of each label, or (single_label) divisor of each before the largest is taken.
        fusion: Present if the folder holds a word model too, whose logits are added.
        trained: Sorted names of the tensors of a ``part``; null for other kinds.
        probes: Texts whose logits are compared when the bundle is loaded; empty only while it is written.
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
        """True if plain PEFT trained it."""
        return "imported_from" in self.hyperparameters

    @property
    def logit_unit(self) -> float:
        """Divisor of a difference of two logits before it is compared with a tolerance."""
        if self.numbers is None:
            return 1.0
        # The model was trained in standard deviations; of large numbers fp32 keeps seven digits.
        return (self.numbers.sd or 1.0) + 0.05 * max(abs(self.numbers.low), abs(self.numbers.high))

    @model_validator(mode="after")
    def _fits_together(self) -> BundleInfo:
        if (self.trained is not None) != (self.kind == "part"):
            raise ValueError(f"'trained' belongs to the kind 'part', and to no other; this is '{self.kind}'")
        is_number = TASKS[self.task].numbers
        if is_number != (len(self.labels) == 1) or is_number != (self.numbers is not None):
            raise ValueError(
                f"the task is {self.task}, with {len(self.labels)} labels; expected two at least of classes, and of "
                "numbers one, and how they lie"
            )
        if len(set(self.labels)) < len(self.labels) or not all(label.strip() for label in self.labels):
            raise ValueError("labels are equal or empty; expected a different name for each")
        cuts = self.threshold
        if cuts is not None and (len(cuts) != len(self.labels) or not all(0 < cut <= 1 for cut in cuts)):
            raise ValueError(f"the thresholds are {cuts}; expected one for each label, above 0, up to 1")
        if not 0 <= self.reading.stride < self.max_length or self.reading.max_windows < 1:
            raise ValueError(f"{self.reading} does not fit a max_length of {self.max_length}")
        return self


class _File(Record):
    sha256: str
    bytes: int


class _Manifest(Record):
    schema_version: Literal[1]
    files: dict[str, _File]


def write_files(folder: Path, files: Mapping[str, bytes], *, base: Path | None) -> None:
    """Write a bundle from its files, and let it name a local `base`."""
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
    """Return the path from a bundle to its base model, so that both can be moved together."""
    return Path(os.path.relpath(base.expanduser().resolve(), folder.resolve())).as_posix()


def write_info(folder: Path, info: BundleInfo) -> None:
    """Write ``feathertune.json`` and the manifest of all files, so other files come first."""
    write_atomic(folder / INFO_FILE, info.model_dump_json(indent=1) + "\n")
    present = bundle_files(folder)
    files = {name: _File(sha256=sha256_of(path), bytes=path.stat().st_size) for name, path in present.items()}
    manifest = _Manifest(schema_version=SCHEMA_VERSION, files=files)
    write_atomic(folder / MANIFEST_FILE, manifest.model_dump_json(indent=1) + "\n")


Stamps = Mapping[str, tuple[int, ...]]


def check_manifest(folder: Path) -> Stamps:
    """Require exactly the files of the manifest, unchanged; return what `check_unchanged` compares."""
    if not folder.is_dir():
        raise BundleError(f"The bundle {folder} is not a folder. Expected what `feathertune train --out` wrote.")
    if not (folder / MANIFEST_FILE).is_file():
        hint = "Expected what `feathertune train --out` wrote."
        if (folder / ADAPTER_CONFIG_FILE).is_file():
            hint = "It looks like an adapter that plain PEFT wrote: `feathertune import` makes a bundle of one."
        raise BundleError(f"The folder {folder} is not a bundle: it holds no {MANIFEST_FILE}. {hint}")
    listed = _parse(folder / MANIFEST_FILE, _Manifest).model_dump()["files"]
    present = bundle_files(folder)
    stamps = _stamps(present)  # before the hashes
    if what := difference(listed, present) or ("" if INFO_FILE in listed else f"{INFO_FILE} is missing"):
        raise BundleError(f"The bundle {folder} is damaged: {what}. Copy it again.")
    return stamps


def check_unchanged(folder: Path, stamps: Stamps) -> None:
    """Require that no file was written or replaced since `check_manifest`."""
    found = _stamps(bundle_files(folder))
    if changed := [name for name in sorted(stamps.keys() | found.keys()) if stamps.get(name) != found.get(name)]:
        raise BundleError(f"The bundle {folder} changed while it was loaded: {changed[0]} was written. Load it again.")


def _stamps(files: Mapping[str, Path]) -> Stamps:
    return {name: state_of(path) for name, path in files.items()}


def read_info(folder: Path) -> BundleInfo:
    """Read ``feathertune.json``."""
    return _parse(folder / INFO_FILE, BundleInfo)


def bundle_files(folder: Path) -> dict[str, Path]:
    """Return the files that a manifest lists, by relative path; hidden files do not belong to a bundle."""
    found = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name.as_posix(): path
        for name, path in found.items()
        if name.as_posix() != MANIFEST_FILE and not any(part.startswith(".") for part in name.parts)
    }


def parse_json(content: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Parse JSON as UTF-8; ValueError if it is none, or holds NaN, infinity or an integer of more than 64 bits."""

    def number(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(f"it holds the number {text:.20}, which is not finite")
        return value

    def integer(text: str) -> int:
        if len(text) > 20 or abs(int(text)) >= 1 << 63:
            raise ValueError(f"it holds the number {text:.20}..., which is too large")
        return int(text)

    try:
        return json.loads(content.decode("utf-8"), parse_float=number, parse_int=integer, parse_constant=number)
    except RecursionError as error:
        raise ValueError("its values are nested too deeply") from error


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object of an adapter; BundleError if it cannot be read, or is none."""
    try:
        found = parse_json(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError(f"{path.name} holds no JSON object")
    except (OSError, ValueError) as error:
        raise BundleError(f"The adapter {path.parent} cannot be read: {first_line(error)}.") from error
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
            f"{path} is not what feathertune {feathertune.__version__} writes (schema {SCHEMA_VERSION}): "
            f"{where}: {first['msg']}. It is damaged, or of another version."
        ) from error
