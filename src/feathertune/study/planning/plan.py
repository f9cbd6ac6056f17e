"""The list of runs of a study, written down before the first one starts.

Every run is described by its `RunSpec` alone: given the same data and encoder, nothing else may change its result.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from feathertune.baselines import BASELINES, FOUNDATION_SEEDS, Baseline
from feathertune.config import Config
from feathertune.methods import Method, Options, choose_methods
from feathertune.records import Kind, Record
from feathertune.study.planning.few_labels import settle_validation
from feathertune.study.planning.method_sizing import Fit, Fitted, check_sizes_are_free
from feathertune.study.planning.search_space import check_can_search, space_of

PLAN_FILE = "plan.json"
# By part: settings that came later, and their values where they are not used. With these a study is the one that it was
# before there were such settings.
_NOT_USED: dict[str, dict[str, Any]] = {
    "data": {"shots": None, "long": "head"},
    "train": {"min_steps": 0},
    "study": {"train_sizes": [], "search": 0},
    "run": {"train_rows": None, "space": {}},
    "full": {"read": "first"},
}


class RunSpec(Record):
    """One method, one seed, every option spelled out.

    Attributes:
        train_rows: How many of the training rows; null for all of them, in a study without a learning curve.
        trains: Parameters that will be trained, those of the head among them; null for baselines.
        notes: What is to be said of the result, whatever it is.
        space: Values of the options that a search settles first (`feathertune.study.running.search`); `options` has
            what they would be without it.
    """

    id: str
    method: str
    kind: Kind
    seed: int
    train_rows: int | None = None
    options: dict[str, object] = Field(default_factory=dict)
    trains: int | None = None
    notes: list[str] = Field(default_factory=list)
    space: dict[str, list[object]] = Field(default_factory=dict)


class Plan(Record):
    """A study before it runs.

    Attributes:
        fingerprint: Of settings, data, encoder and runs: a folder is continued only by the plan it was begun with.
        config: Every setting, the methods' options included, but for those that follow from `match_parameters`.
        left_out: Methods that cannot serve the encoder: name to reason.
        parameter_budget: What ``study.match_parameters`` means for this encoder.
        off_budget: Methods that come nowhere near it: name to how many they train, and why.
    """

    fingerprint: str
    config: Config
    runs: list[RunSpec]
    left_out: dict[str, str] = Field(default_factory=dict)
    parameter_budget: int | None = None
    off_budget: dict[str, str] = Field(default_factory=dict)


def settle(config: Config) -> tuple[Config, list[tuple[Method, Options]]]:
    """Spell out each chosen method's options in the settings.

    Args:
        config: As the user gave it.

    Returns:
        The settings with ``method.NAME`` filled in for each chosen method, and the methods with their options. What
        the encoder will decide stays open: the sizes under ``match_parameters``, and which methods ``all`` means. So
        do the options that are searched.

    Raises:
        UnknownNameError: If a method does not exist.
        ConfigError: If an option does not fit.
    """
    chosen = choose_methods(config.study.methods, config.method, learning_rate=config.train.learning_rate)
    config = settle_validation(config, chosen)
    if config.study.match_parameters is not None:
        check_sizes_are_free(config, chosen)
    if config.study.search:
        check_can_search(config, chosen)
    spelled_out = {
        method.name: options.model_dump(mode="json", exclude=_left_open(config, method)) for method, options in chosen
    }
    names = tuple(name for name in dict.fromkeys(config.study.methods) if name not in BASELINES)
    study = config.study.model_copy(update={"methods": names})
    return config.model_copy(update={"method": spelled_out, "study": study}), chosen


def _left_open(config: Config, method: Method) -> set[str]:
    sized = method.size is not None and config.study.match_parameters is not None
    return {*({method.size.option} if method.size is not None and sized else ()), *space_of(config, method)}


def make_plan(
    config: Config,
    *,
    data_fingerprint: str,
    base_fingerprint: str,
    fit: Fit | None = None,
    sizes: Sequence[int] = (),
    n_rows: int = 0,
) -> Plan:
    """Expand settings to runs: the baselines, then every method with seed 0, then with seed 1, and so on.

    A study that is cut short so has one seed of everything before it has two of anything. Within a seed a learning
    curve goes from few rows to many.

    Args:
        config: The settings.
        data_fingerprint: Of texts, labels and splits.
        base_fingerprint: Of the encoder's weights.
        fit: The methods as they fit the encoder; ``None`` takes them as the settings say.
        sizes: Training rows of a learning curve, ascending; none where there is no such curve.
        n_rows: All training rows.
    """
    config, chosen = settle(config)
    fit = fit or Fit(tuple(Fitted(method, options) for method, options in chosen))
    runs = [run for baseline in BASELINES for run in _runs_of(baseline, sizes, n_rows, seeds=config.study.seeds)]
    runs += [
        RunSpec(
            id=run_id(fitted.method.name, rows, seed),
            method=fitted.method.name,
            kind=fitted.method.kind,
            seed=seed,
            train_rows=rows,
            options=fitted.options.model_dump(mode="json"),
            trains=fitted.trains,
            notes=list(fitted.notes),
            space=space_of(config, fitted.method),
        )
        for seed in range(config.study.seeds)
        for rows in sizes or (None,)
        for fitted in fit.methods
    ]
    return Plan(
        fingerprint=_fingerprint(config, runs, data_fingerprint, base_fingerprint),
        config=config,
        runs=runs,
        left_out=fit.left_out,
        parameter_budget=fit.budget,
        off_budget={fitted.method.name: fitted.off_budget for fitted in fit.methods if fitted.off_budget},
    )


def run_id(method: str, rows: int | None, seed: int) -> str:
    """The name of a run and of its folder: of options in the method's name stays what a file may be called."""
    method = re.sub(r"[^A-Za-z0-9._=]+", "-", method).strip("-")
    return f"{method}-s{seed}" if rows is None else f"{method}-n{rows}-s{seed}"


def _runs_of(baseline: Baseline, sizes: Sequence[int], n_rows: int, *, seeds: int) -> list[RunSpec]:
    """One run where all is given by the data: one seed draws another part of the rows, but not of all of them."""

    def spec(rows: int | None, seed: int) -> RunSpec:
        name = baseline.name
        return RunSpec(id=run_id(name, rows, seed), method=name, kind=baseline.kind, seed=seed, train_rows=rows)

    if baseline.reads == "encoder":  # it is not trained
        return [spec(None, seed) for seed in range(FOUNDATION_SEEDS)]
    return [spec(rows, seed) for rows in sizes or (None,) for seed in range(1 if rows in (None, n_rows) else seeds)]


def _fingerprint(config: Config, runs: Sequence[RunSpec], *content: str) -> str:
    # Not what is only said of a run: it decides nothing. Nor what came later and is not used.
    specs = [
        {
            **_used(run.model_dump(mode="json", exclude={"trains", "notes"}), "run"),
            "options": _used(run.options, "full"),
        }
        for run in runs
    ]
    described_settings = config.model_dump(mode="json") | {"train": config.train.said()}
    settings = {part: _used(values, part) for part, values in described_settings.items()}
    # Accuracy leads as it did before another score could; `auto` has become what it stands for by now.
    if settings["study"]["metric"] != "balanced_accuracy":
        del settings["study"]["metric"]
    if "full" in settings["method"]:
        settings["method"]["full"] = _used(settings["method"]["full"], "full")
    if settings["data"].get("long") != "windows":
        for key in ("stride", "max_windows"):
            del settings["data"][key]
    described = [settings, specs, *content]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _used(values: Mapping[str, Any], part: str) -> dict[str, Any]:
    """The values without those of `_NOT_USED`."""
    unused = _NOT_USED.get(part, {})
    return {key: value for key, value in values.items() if key not in unused or value != unused[key]}
