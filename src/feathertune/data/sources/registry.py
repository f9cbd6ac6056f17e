"""Data sources by name: ``sample:NAME``, ``hub:NAME[:CONFIG]``, a file, a folder, or a source of another package."""

from __future__ import annotations

import os
import re
from pathlib import Path

from feathertune.data.reading import rows
from feathertune.data.sources.collector import RawDataset, ReadOptions, Source
from feathertune.data.sources.files import load_file, load_folder
from feathertune.data.sources.hub import load_hub
from feathertune.data.sources.samples import SAMPLES, load_sample
from feathertune.errors import DataError
from feathertune.input_files import check_regular
from feathertune.registry import Registry, entry_points

__all__ = ["SOURCES", "RawDataset", "Source", "load_source", "without_path"]

_SCHEME = re.compile(r"[A-Za-z][\w+-]+")  # at least two letters: a single one is a Windows drive
_DEFAULTS = ReadOptions()

SOURCES: Registry[Source] = Registry(
    "kind of data source",
    (
        Source("sample", load_sample),
        Source("hub", load_hub),
        Source("file", load_file),
        Source("folder", load_folder),
    ),
    others=entry_points("feathertune.sources", Source),
)


def without_path(name: str) -> str:
    """Return a source's name without its path, which is specific to this machine."""
    scheme, _, rest = name.partition(":")
    return name if scheme in ("sample", "hub") else Path(rest or scheme).name


def load_source(name: str, options: ReadOptions = _DEFAULTS) -> RawDataset:
    """Read all texts and labels of a source; a `DataError` names the file and row that cannot be read."""
    scheme, colon, rest = name.partition(":")
    if colon and scheme in SOURCES:
        return SOURCES[scheme].load(rest, options)
    check_regular(Path(name))
    if os.path.isdir(name):
        return load_folder(name, options)
    if os.path.exists(name):
        return load_file(name, options)
    if colon and _SCHEME.fullmatch(scheme):
        SOURCES[scheme]  # raises an error that lists the known kinds, or the reason this one cannot be used
    also = ", ".join(f"sample:{sample}" for sample in SAMPLES.names())
    raise DataError(f"{rows.missing(Path(name))} Other sources: {also} and hub:NAME.")
