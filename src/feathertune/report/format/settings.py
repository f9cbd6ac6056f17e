"""Hyperparameters, hardware and versions as pairs of words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from feathertune.records import RunRecord
from feathertune.report.format import units
from feathertune.report.rows import Limits, Method


def hyperparameters(
    methods: Sequence[Method], done: Sequence[RunRecord], limits: Limits
) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """Return them by method; a value that differs between seeds is given for each."""
    found = []
    for method in methods:
        merged: dict[str, dict[str, None]] = {}
        for run in (run for run in done if run.method == method.row.method):
            for key, value in run.hyperparameters.items():
                merged.setdefault(key, {})[plain(key, value, 2 * limits.words)] = None
        pairs = [(units.clip(key, limits.words), " / ".join(list(said)[:5])) for key, said in merged.items()]
        if pairs:
            found.append((method.row.method, tuple(pairs[: limits.labels])))
    return tuple(found)


def word_pairs(mapping: Mapping[str, Any], limits: Limits) -> tuple[tuple[str, str], ...]:
    """Return a mapping of the record, such as its hardware, in words."""
    return tuple(
        (units.clip(key, limits.words).removesuffix("_bytes").replace("_", " "), plain(key, value, 2 * limits.words))
        for key, value in list(mapping.items())[: limits.labels]
    )


def plain(key: str, value: Any, length: int) -> str:  # noqa: ANN401 - any JSON value
    """Return a JSON value in words of at most `length` characters; a `key` that ends in ``_bytes`` is a size."""
    if key.endswith("_bytes") and isinstance(value, (int, float)):
        return units.size(value)
    if value is None:
        return units.DASH
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = ", ".join(value)
    elif isinstance(value, dict):
        value = ", ".join(f"{name.replace('_', ' ')} {plain(name, item, length)}" for name, item in value.items())
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return units.clip(said, length)
