"""A study's plan, written to disk before the first run starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from pydantic import Field

from feathertune.baselines import BASELINES, FOUNDATION_SEEDS, Baseline
from feathertune.config import Config
from feathertune.records import Record
from feathertune.records.row_names import row_name
from feathertune.study.planning.method_sizing import Fit
from feathertune.study.run_spec import RunSpec, run_id

PLAN_FILE = "plan.json"
CONTENT = ("the data", "the base model's weights or configuration", "the base model's tokenizer")


class Plan(Record):
    """A study before it runs.

    Attributes:
        fingerprint: Hash of settings, runs and content; a study resumes only with an equal plan.
        content: Fingerprints of the parts in `CONTENT`.
        left_out: Reasons for leaving out methods, by row name.
        parameter_budget: ``study.match_parameters`` as a number of parameters.
        off_budget: Sizes of methods far from the budget, by row name.
    """

    fingerprint: str
    content: list[str]
    config: Config
    runs: list[RunSpec]
    left_out: dict[str, str] = Field(default_factory=dict)
    parameter_budget: int | None = None
    off_budget: dict[str, str] = Field(default_factory=dict)


def make_plan(config: Config, fit: Fit, runs: Sequence[RunSpec], *, content: Sequence[str]) -> Plan:
    """Return the plan for some runs; `content` holds the fingerprints of the parts in `CONTENT`."""
    described = [config.model_dump(mode="json"), [run.model_dump(mode="json") for run in runs], *content]
    return Plan(
        fingerprint=hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest(),
        content=list(content),
        config=config,
        runs=list(runs),
        left_out=fit.left_out,
        parameter_budget=fit.budget,
        off_budget={planned.row: planned.off_budget for planned in fit.methods if planned.off_budget},
    )


def runs_of_study(
    fit: Fit, seeds: int, *, bases: Sequence[str | None] = (None,), sizes: Sequence[int] = (), n_rows: int = 0
) -> list[RunSpec]:
    """Return a study's runs, ordered by base model and seed.

    `sizes` are the learning curve's training rows, up to `n_rows`. Baselines that read only texts come first.
    """
    runs = []
    of_texts = [baseline for baseline in BASELINES if baseline.reads == "texts"]
    of_bases = [baseline for baseline in BASELINES if baseline.reads != "texts"]
    runs = [run for baseline in of_texts for run in _runs_of(baseline, None, sizes, n_rows, seeds=seeds)]
    for base in bases:
        runs += [run for baseline in of_bases for run in _runs_of(baseline, base, sizes, n_rows, seeds=seeds)]
        methods = [planned for planned in fit.methods if planned.base == base]
        runs += [planned.run(seed, rows) for seed in range(seeds) for rows in sizes or (None,) for planned in methods]
    return runs


def _runs_of(baseline: Baseline, base: str | None, sizes: Sequence[int], n_rows: int, *, seeds: int) -> list[RunSpec]:
    """Return a baseline's runs: one per seed if it reads a drawn part of the rows, or a single run on all rows."""
    row = row_name(baseline.name, base)

    def spec(rows: int | None, seed: int) -> RunSpec:
        name = run_id(row, rows, seed)
        return RunSpec(id=name, method=baseline.name, base=base, kind=baseline.kind, seed=seed, train_rows=rows)

    if baseline.reads == "encoder":  # it is not trained
        return [spec(None, seed) for seed in range(FOUNDATION_SEEDS)]
    return [spec(rows, seed) for rows in sizes or (None,) for seed in range(1 if rows in (None, n_rows) else seeds)]
