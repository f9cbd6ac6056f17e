"""Packages that are as good as installed: a folder on the path with a module and the metadata of a distribution."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def make_distribution(
    folder: Path, name: str, groups: Mapping[str, Mapping[str, str]], files: Mapping[str, str]
) -> Path:
    """Write a distribution.

    Args:
        folder: To be put on the path.
        name: Of the distribution.
        groups: Entry points by group and name.
        files: Its modules, by path.

    Returns:
        `folder`.
    """
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [
        line
        for group, entries in groups.items()
        for line in (f"[{group}]", *(f"{entry} = {value}" for entry, value in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for path, text in files.items():
        (folder / path).write_text(text)
    return folder
