"""The list of runs of a study, written down before the first one starts.

Every run is described by its `RunSpec` alone: given the same data and encoder, nothing else may change its result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from pydantic import Field

from feathertune.config import Config
from feathertune.methods import BASELINES, FOUNDATION_SEEDS, Method, Options, choose_methods
from feathertune.records import Kind, Record

PLAN_FILE = "plan.json"


class RunSpec(Record):
    """One method, one seed, every option spelled out."""

    id: str
    method: str
    kind: Kind
    seed: int
    options: dict[str, object] = Field(default_factory=dict)


class Plan(Record):
    """A study before it runs.

    Attributes:
        fingerprint: Of settings, data, encoder and runs: a folder is continued only by the plan it was begun with.
        config: Every setting, the methods' options included.
    """

    fingerprint: str
    config: Config
    runs: list[RunSpec]


def settle(config: Config) -> tuple[Config, list[tuple[Method, Options]]]:
    """Spell out each chosen method's options in the settings.

    Args:
        config: As the user gave it.

    Returns:
        The settings with ``method.NAME`` filled in for each chosen method, and the methods with their options.

    Raises:
        UnknownNameError: If a method does not exist.
        ConfigError: If an option does not fit.
    """
    chosen = choose_methods(config.study.methods, config.method, learning_rate=config.train.learning_rate)
    spelled_out = {method.name: options.model_dump(mode="json") for method, options in chosen}
    study = config.study.model_copy(update={"methods": tuple(method.name for method, _ in chosen)})
    return config.model_copy(update={"method": spelled_out, "study": study}), chosen


def make_plan(config: Config, *, data_fingerprint: str, base_fingerprint: str) -> Plan:
    """Expand settings to runs: the baselines, then every method with seed 0, then with seed 1, and so on.

    A study that is cut short so has one seed of everything before it has two of anything.

    Args:
        config: The settings.
        data_fingerprint: Of texts, labels and splits.
        base_fingerprint: Of the encoder's weights.
    """
    config, chosen = settle(config)
    runs = [
        RunSpec(id=f"{b.name}-s{seed}", method=b.name, kind=b.kind, seed=seed)
        for b in BASELINES
        for seed in range(FOUNDATION_SEEDS if b.reads == "encoder" else 1)
    ]
    runs += [
        RunSpec(id=f"{m.name}-s{seed}", method=m.name, kind=m.kind, seed=seed, options=options.model_dump(mode="json"))
        for seed in range(config.study.seeds)
        for m, options in chosen
    ]
    return Plan(
        fingerprint=_fingerprint(config, runs, data_fingerprint, base_fingerprint),
        config=config,
        runs=runs,
    )


def _fingerprint(config: Config, runs: Sequence[RunSpec], *content: str) -> str:
    described = [config.model_dump(mode="json"), [run.model_dump(mode="json") for run in runs], *content]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
