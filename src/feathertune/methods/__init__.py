"""Registry of all training methods. Loads no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from feathertune.baselines import BASELINES
from feathertune.errors import ConfigError
from feathertune.methods.base import Job, Method, Options
from feathertune.methods.families import (
    adalora,
    full,
    lora,
    lora_starts,
    low_rank,
    partial,
    prompts,
    rotations,
    scales,
    shared,
    spectral,
)
from feathertune.methods.options import (
    FUSED,
    check_shared_options,
    is_fused,
    options_in,
    plain_name,
    resolve_options,
    without_options,
)
from feathertune.registry import Registry, entry_points

__all__ = [
    "ALL_METHODS",
    "FUSED",
    "METHODS",
    "Job",
    "Method",
    "Options",
    "choose_methods",
    "is_fused",
    "method_named",
    "one_method",
    "options_in",
    "plain_name",
    "resolve_options",
    "without_options",
]

METHODS: Registry[Method] = Registry(
    "method",
    (
        lora.LORA,
        lora.RSLORA,
        lora.DORA,
        lora.LORA_PLUS,
        lora.LORA_FA,
        lora_starts.PISSA,
        lora_starts.OLORA,
        lora_starts.EVA,
        adalora.ADALORA,
        low_rank.HIRA,
        low_rank.LOHA,
        low_rank.LOKR,
        low_rank.GRALORA,
        low_rank.MISS,
        low_rank.DELORA,
        shared.VERA,
        shared.VBLORA,
        shared.RANDLORA,
        spectral.FOURIERFT,
        spectral.WAVEFT,
        spectral.C3A,
        rotations.OFT,
        rotations.BOFT,
        rotations.HRA,
        rotations.ROAD,
        scales.IA3,
        scales.LN_TUNING,
        partial.BITFIT,
        partial.SHIRA,
        prompts.PROMPT,
        prompts.P_TUNING,
        prompts.PREFIX,
        partial.HEAD,
        partial.TOP_LAYERS,
        full.FULL,
    ),
    others=entry_points("feathertune.methods", Method),
)
_FUSED_SUMMARY = "Adds the logits of a tf-idf word model, with weights fitted to validation rows."
# Stands for every method that supports the base model.
ALL_METHODS = "all"


def method_named(name: str) -> Method:
    """Return the method of a study's row, such as ``lora`` or ``lora:top_layers=3+tfidf``, with that full name."""
    method = METHODS[plain_name(name)]
    if is_fused(name):
        method = dataclasses.replace(method, is_fused=True, summary=f"{method.summary} {_FUSED_SUMMARY}")
    return method if method.name == name else dataclasses.replace(method, name=name)


def one_method(name: str) -> Method:
    """Return the method of a single training; ConfigError for ``all``."""
    if name == ALL_METHODS:
        raise ConfigError(
            f"Method '{name}' means every method, but a training uses one. Pass one of `feathertune methods`, or "
            f"compare them: feathertune compare --methods {name}."
        )
    return method_named(name)


def choose_methods(
    names: Sequence[str], settings: Mapping[str, Any], *, learning_rate: float | None
) -> list[tuple[Method, Options]]:
    """Return the methods for these names with their options; ``all`` means every method.

    Repeated names and baselines are skipped. ConfigError if an option is unknown, invalid, or has no effect.
    """
    wanted = [one for name in names for one in (METHODS.names() if name == ALL_METHODS else (name,))]
    chosen = [method_named(name) for name in dict.fromkeys(wanted) if name not in BASELINES]
    by_name = {method.name: method for method in METHODS}
    check_shared_options(settings, chosen, by_name)
    return [
        (method, resolve_options(method, settings, learning_rate=learning_rate, all_methods=by_name))
        for method in chosen
    ]
