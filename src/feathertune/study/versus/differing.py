"""List what two studies differ in, apart from their results: data, base model, settings, versions, hardware."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml

from feathertune.config.loading import read_yaml
from feathertune.records import CONFIG_FILE, StudyRecord, comparable, differences
from feathertune.report.comparison import Differing, Group

Settings = Mapping[str, Any]

# Settings that choose runs and wording; none of them changes a run.
_OF_THE_STUDY = ("study.methods", "study.seeds", "study.margin", "study.keep_full")


def find_differing(
    a: StudyRecord, b: StudyRecord, *, settings: tuple[Settings | None, Settings | None]
) -> list[Differing]:
    """Return what differs on record, without times, memory and dates; settings only if both are known."""
    known = settings if None not in settings else ({}, {})
    first, second = (_on_record(study, config or {}) for study, config in zip((a, b), known, strict=True))
    return [
        Differing(group=group, key=key.removeprefix("settings."), a=old, b=new)
        for group in get_args(Group)
        for key, old, new in differences({group: first[group]}, {group: second[group]})
    ]


def read_settings(folder: Path) -> Settings | None:
    """Return a study's settings, or None if they are missing or damaged."""
    try:
        content = read_yaml((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None
    return content if isinstance(content, dict) else None


def causes(found: Sequence[Differing], method: str, *, trained: bool) -> list[Differing]:
    """Return the possible reasons for a difference in a method's results; none follows from another one.

    Rows follow from settings such as ``data.train_size``. Settings of ``train`` concern methods that are `trained`.
    """
    settings = [
        place
        for place in found
        if place.group == "settings"
        and place.key not in _OF_THE_STUDY
        and _concerns(place.key, method)
        and (trained or not place.key.startswith("train."))
    ]
    named = {place.key.partition(".")[0] for place in settings}
    contents: list[Differing] = []
    for group in ("data", "base"):
        places = [place for place in found if place.group == group and group not in named]
        contents += [place for place in places if place.key == f"{group}.fingerprint"] or places
    return [*settings, *contents, *(place for place in found if place.group in ("versions", "hardware"))]


def _concerns(key: str, method: str) -> bool:
    """Return False for an option of another method; ``method.top_layers`` is an option of all."""
    if key.count(".") < 2 or not key.startswith("method."):
        return True
    return any(key.startswith(f"method.{name}.") for name in (method, method.partition(":")[0]))


def _on_record(study: StudyRecord, settings: Settings) -> dict[str, Any]:
    record = study.model_dump(mode="json", include={"data", "base", "versions", "hardware"})
    if study.data.numbers:  # a line for each split is enough
        record["data"]["numbers"] = {split: found.in_words() for split, found in study.data.numbers.items()}
    return {**record, "hardware": comparable(record["hardware"]), "settings": settings}
