"""In what two studies differ, apart from their results: data, encoder, settings, versions, hardware.

Not for deciding whether a study may be continued: that is the plan's fingerprint (`feathertune.study.planning.plan`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from feathertune.records import CONFIG_FILE, StudyRecord, comparable, differences
from feathertune.report.comparison import Differing, Group

# Settings that decide which runs there are, and what is said of them; none of them changes a run.
_OF_THE_STUDY = ("study.methods", "study.seeds", "study.margin", "study.keep_full")


def find_differing(
    a: StudyRecord, b: StudyRecord, *, settings: tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]
) -> list[Differing]:
    """Everything on record in which two studies differ; times, memory and dates are left out.

    Args:
        a: The first study.
        b: The second one.
        settings: The ``config.yaml`` of both, from `read_settings`. Without one of them, only the hyperparameters of
            methods that both have can be compared.
    """
    sides = (a.model_dump(mode="json"), b.model_dump(mode="json"))
    for side, study in zip(sides, (a, b), strict=True):
        if study.data.numbers:  # a line for each split is enough
            side["data"]["numbers"] = {split: found.in_words() for split, found in study.data.numbers.items()}
    found = _between("data", *(side["data"] for side in sides)) + _between("base", *(side["base"] for side in sides))
    if settings[0] is not None and settings[1] is not None:
        found += [
            _setting(*place)
            for place in differences(*settings)
            # Accuracy leads where a study from before the setting says nothing.
            if place[0] != "study.metric" or a.metric != b.metric
        ]
    found += _hyperparameters(a, b, known={place.key for place in found})
    for group in ("versions", "hardware"):
        found += _between(group, *(comparable(side[group]) for side in sides))
    return found


def read_settings(folder: Path) -> Mapping[str, Any] | None:
    """The settings of a study, or ``None`` where they are missing or damaged."""
    try:
        content = yaml.safe_load((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    return content if isinstance(content, dict) else None


def causes(found: Sequence[Differing], method: str, *, trained: bool) -> list[Differing]:
    """What may be the reason that a method's results differ; what follows from something named is not named again.

    Rows and fingerprints follow from settings such as ``data.train_size``, all else of the data from its fingerprint.

    Args:
        found: All differences.
        method: Its name.
        trained: Whether it goes through the training loop; baselines and probe ask nothing of ``train``.
    """
    settings = [
        place
        for place in found
        if place.group == "settings"
        and place.key not in _OF_THE_STUDY
        and place.method in (None, method)
        and (trained or not place.key.startswith("train."))
    ]
    named = {place.key.partition(".")[0] for place in settings}
    contents: list[Differing] = []
    for group in ("data", "base"):
        places = [place for place in found if place.group == group and group not in named]
        contents += [place for place in places if place.key == f"{group}.fingerprint"] or places
    return [*settings, *contents, *(place for place in found if place.group in ("versions", "hardware"))]


def _between(group: Group, a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Differing]:
    return [Differing(group=group, key=f"{group}.{key}", a=old, b=new) for key, old, new in differences(a, b)]


def _setting(key: str, a: object, b: object) -> Differing:
    method = key.split(".")[1] if key.startswith("method.") else None
    return Differing(group="settings", key=key, a=a, b=b, method=method)


def _hyperparameters(a: StudyRecord, b: StudyRecord, *, known: set[str]) -> list[Differing]:
    """What the runs of shared methods say of themselves, where no setting says it: sizes and formats chosen."""
    sides = (_by_method(a), _by_method(b))
    shared = [method for method in sides[0] if method in sides[1]]
    found: list[Differing] = []
    for method in shared:
        for key, old, new in differences(sides[0][method], sides[1][method]):
            if not known & {f"method.{method}.{key}", f"train.{key}", f"engine.{key}"}:
                found.append(_setting(f"method.{method}.{key}", old, new))
    return _joined(found, len(shared))


def _joined(found: Sequence[Differing], n_methods: int) -> list[Differing]:
    """The same difference of every method, such as the number format, once."""
    groups: dict[str, list[Differing]] = {}
    for place in found:
        option = place.key.removeprefix(f"method.{place.method}.")
        groups.setdefault(f"{option}\0{place.a!r}\0{place.b!r}", []).append(place)
    joined: list[Differing] = []
    for name, places in groups.items():
        if len(places) == n_methods > 1:
            joined.append(_setting(name.partition("\0")[0], places[0].a, places[0].b))
        else:
            joined += places
    return joined


def _by_method(study: StudyRecord) -> dict[str, dict[str, Any]]:
    """The hyperparameters of each trained method; where seeds differ, all values."""
    found: dict[str, dict[str, Any]] = {}
    for run in study.runs:
        if run.status == "complete" and run.hyperparameters:
            merged = found.setdefault(run.method, {})
            for key, value in run.model_dump(mode="json")["hyperparameters"].items():
                values = merged.setdefault(key, [])
                if value not in values:
                    values.append(value)
    return {
        method: {key: values[0] if len(values) == 1 else values for key, values in merged.items()}
        for method, merged in found.items()
    }
