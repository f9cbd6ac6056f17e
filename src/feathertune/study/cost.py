"""Estimate each method's time and memory on this machine from a few real batches.

Each method runs once on a pilot: a few batches of the study, which take seconds. The pilot's scores are meaningless;
its seconds are scaled to the work of the full plan. Early stopping is not predicted.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from feathertune.baselines import BASELINES
from feathertune.config import TrainConfig
from feathertune.data.sources.collector import SPLITS, SplitName
from feathertune.data.splitting.pool import Split
from feathertune.data.tokens.batching import cut_passes, plan_steps
from feathertune.engine.prefix_cache.activations import n_bytes
from feathertune.engine.training.head import MOST_LAYERS, n_head_steps
from feathertune.errors import RunFailedError
from feathertune.gc_freeze import gc_frozen
from feathertune.methods import FUSED
from feathertune.records import RunRecord, Seconds
from feathertune.records.cost_estimate import CostEstimate, CostRow
from feathertune.report.format import units
from feathertune.runtime import hardware, stopwatch, versions
from feathertune.study.observe import Observer, Silent
from feathertune.study.planning.resolve import ResolvedStudy
from feathertune.study.run_spec import RunSpec
from feathertune.study.running.prepare import begins_with_head, method_of
from feathertune.study.running.runs import execute
from feathertune.study.running.top_layers_sweep import depths, sweep_epochs
from feathertune.study.running.workbench import Parts, Prepared, Workbench

# Text baselines run on this many training rows; the time for more rows is extrapolated in proportion.
_TEXT_ROWS = 5_000
# Frozen features of a row: two float32 vectors from the last layer and one from each kept layer.
_FEATURE_BYTES = (2 + MOST_LAYERS) * 4
# Only the first epoch includes the work that libraries do once per shape.
EPOCHS = 2
_STEPS, _PASSES = 4, 3

# Row indices of one forward pass; passes of one optimizer step.
Pass = np.ndarray
Step = list[Pass]


def estimate(prepared: Prepared, observer: Observer) -> CostEstimate:
    """Measure every method of a plan; a method that fails gets a row with its error."""
    plan, parts = prepared.plan, Parts(prepared)
    rows: list[CostRow] = []
    features_s = 0.0
    scratch_folder = tempfile.TemporaryDirectory(prefix="feathertune-cost-")
    with gc_frozen(), stopwatch() as watch, scratch_folder as scratch:
        for base in prepared.benches:
            measuring = _Measuring(parts.on_base(base), Path(scratch))
            runs = [spec for spec in plan.runs if spec.base == base or (spec.base is None and not rows)]
            rows += measuring.rows(runs, observer)
            features_s += measuring.features_seconds(runs)
    return CostEstimate(
        plan=plan.fingerprint,
        rows=rows,
        study_seconds=features_s + sum(row.n_runs * row.own_seconds + row.shared_seconds for row in rows),
        measured_seconds=watch.seconds,
        hardware=hardware(prepared.bench.runtime),
        versions=versions(),
    )


class _Measuring:
    def __init__(self, prepared: Prepared, scratch: Path) -> None:
        bench, self._study, self._scratch = prepared.bench, prepared.study, scratch
        self._train = self._study.config.train
        self._bench, self._pilot = bench, pilot(bench, self._train)
        self._parts = Parts(prepared)
        self._records: dict[str, RunRecord] = {}
        bench.pretrained.load(seed=0)  # not timed: the first load may read from a slow disk
        with stopwatch() as load:
            bench.pretrained.load(seed=0)
        self._load_s = load.seconds
        # Seconds to compute the pilot's frozen features, per split and per token.
        names = [name for name in SPLITS if len(self._pilot.encoded[name])]
        self._read_s = {name: self._pilot.features(name, lambda _: None).seconds for name in names}
        reading_s = max(0.0, sum(self._read_s.values()) - len(names) * self._load_s)
        self._token_s = reading_s / sum(_reading_work(self._pilot, name) for name in names)

    def rows(self, runs: Sequence[RunSpec], observer: Observer) -> Iterator[CostRow]:
        """Yield one row per method and training size, in the order of the runs."""
        n_runs = Counter((spec.row, spec.train_rows) for spec in runs)
        first = {(spec.row, spec.train_rows): spec for spec in reversed(runs)}
        for key, n in n_runs.items():
            spec = first[key]
            observer.stage(f"measuring {spec.row}")
            row = CostRow(method=spec.row, kind=spec.kind, train_rows=spec.train_rows, n_runs=n)
            try:
                self._fill(row, spec)
            except RunFailedError as error:
                row.error = str(error)
            yield row

    def _fill(self, row: CostRow, spec: RunSpec) -> None:
        """Fill in a row's numbers; raise a `RunFailedError` if the method fails on the pilot."""
        bench = self._parts.of(spec, seed=0).bench
        if spec.method not in BASELINES:
            self._trained(row, spec, bench)
        elif BASELINES[spec.method].reads == "texts":
            self._reads_texts(row, spec, bench)
        else:
            self._reads_features(row, spec, bench)

    def features_seconds(self, runs: Sequence[RunSpec]) -> float:
        """Return the seconds needed to compute all frozen features that the runs share."""
        every = (None, len(self._bench.encoded["train"]))
        readers = [spec for spec in runs if spec.kind != "baseline"]
        parts = {(spec.train_rows, 0 if spec.train_rows in every else spec.seed): spec for spec in readers}
        seconds = sum(self._features_s(name, self._bench) for name in ("validation", "test"))
        return seconds + sum(self._features_s("train", self._parts.of(one, seed=0).bench) for one in parts.values())

    def _reads_texts(self, row: CostRow, spec: RunSpec, bench: Workbench) -> None:
        share = min(1.0, _TEXT_ROWS / len(bench.encoded["train"]))
        rng = np.random.default_rng(0)
        sizes = {name: len(bench.encoded[name]) for name in SPLITS}
        part = part_of(bench, {name: rng.permutation(n)[: round(share * n)] for name, n in sizes.items()})
        record = self._run(spec, part)
        row.seconds = _seconds(train=record.seconds.train / share, evaluate=record.seconds.evaluate / share)
        row.memory_bytes, row.own_seconds = record.peak_memory_bytes, row.seconds.total

    def _reads_features(self, row: CostRow, spec: RunSpec, bench: Workbench) -> None:
        untrained = BASELINES[spec.method].reads == "encoder"
        record, small = self._on_pilot(spec), self._pilot
        ratio = {name: len(bench.encoded[name]) / max(1, len(small.encoded[name])) for name in SPLITS}
        train_s = record.seconds.train * ratio["train"]
        score_s = max(0.0, record.seconds.evaluate - self._read_s["test"]) * ratio["test"]
        row.seconds = _seconds(
            tokenize=bench.tokenize_seconds["test"] if untrained else sum(bench.tokenize_seconds.values()),
            cache=0.0 if untrained else self._features_s("train", bench) + self._features_s("validation", bench),
            train=train_s,
            evaluate=score_s + self._features_s("test", bench),
        )
        n_more = sum(bench.encoded[name].n_sequences - small.encoded[name].n_sequences for name in SPLITS)
        row.memory_bytes = (record.peak_memory_bytes or 0) + n_more * bench.base.hidden_size * _FEATURE_BYTES
        row.own_seconds = train_s + score_s + (self._load_s if untrained else 0.0)

    def _trained(self, row: CostRow, spec: RunSpec, bench: Workbench) -> None:
        n_layers, (method, options) = bench.base.n_layers, method_of(spec)
        record = self._on_pilot(spec.at_depth(n_layers) if spec.sweeps_depth else spec)
        n_train = len(bench.encoded["train"])
        whole, part = ({name: _reading_work(one, name) for name in SPLITS} for one in (bench, self._pilot))
        took, n_epochs = record.seconds, self._train.epochs_on(n_train)
        reads = begins_with_head(method, self._train) and not method.rereads(options)
        hidden_s = max(0.0, took.cache - (self._read_s["train"] if reads else 0.0))
        hidden_s *= sum(whole.values()) / sum(part.values())
        head_s = took.head * n_head_steps(n_train) / n_head_steps(len(self._pilot.encoded["train"]))
        # A fused run reuses the pilot's trained model and has no log; the study does not train it again either.
        reused = self._records[spec.method.removesuffix(FUSED)] if record.metrics is None else None
        steps_s, validation_s = _read_log(self._scratch / str((reused or record).metrics))
        train_s = self._train_seconds(steps_s, record.seed, bench, n_epochs)
        train_s += n_epochs * validation_s[-1] * whole["validation"] / (part["validation"] or 1.0)
        load_s = took.total - took.tokenize - took.cache - took.head - took.train - took.evaluate
        if spec.sweeps_depth:
            load_s += len(depths(n_layers)) * self._load_s + train_s * sweep_epochs(n_layers, n_train) / n_epochs
            row.notes.append("top_layers is chosen by a sweep; the estimate covers the sweep and training all layers")
        row.seconds = _seconds(
            load_s,
            tokenize=sum(bench.tokenize_seconds.values()),
            cache=hidden_s + (self._features_s("train", bench) if reads else 0.0),
            head=head_s,
            train=train_s,
            evaluate=took.evaluate * whole["test"] / part["test"],
        )
        row.seconds.ship = took.ship
        row.memory_bytes = record.peak_memory_bytes or 0
        if record.hyperparameters.get("frontier", 0):
            row.memory_bytes += self._hidden_bytes(bench)
        row.own_seconds = load_s + head_s + train_s + row.seconds.evaluate + took.ship
        row.shared_seconds = hidden_s * (1 if spec.train_rows is None else row.n_runs)
        if spec.space:
            n_trials = self._study.config.study.search
            trials_s = n_trials * (load_s + head_s + train_s)
            row.shared_seconds += trials_s
            row.notes.append(
                f"{n_trials} search trials come before the runs, about {units.seconds(trials_s)} if none stops early"
            )
        if reused is not None:
            fuse_s = (took.train - reused.seconds.train) * n_train / len(self._pilot.encoded["train"])
            row.seconds.total, row.seconds.train = row.seconds.total + fuse_s, row.seconds.train + fuse_s
            row.own_seconds, row.shared_seconds = load_s + fuse_s + row.seconds.evaluate + took.ship, 0.0

    def _on_pilot(self, spec: RunSpec) -> RunRecord:
        """Return the method's run on the pilot, cached after the first call."""
        if spec.method not in self._records:
            self._records[spec.method] = self._run(spec, self._pilot)
        return self._records[spec.method]

    def _run(self, spec: RunSpec, bench: Workbench) -> RunRecord:
        record = execute(spec, Prepared(bench, pilot_study(self._study)), self._scratch, Silent())
        if record.status == "failed":
            raise RunFailedError(str(record.error))
        return record

    def _train_seconds(self, found: list[list[float]], seed: int, bench: Workbench, n_epochs: int) -> float:
        """Return the seconds of all steps, extrapolated from the pilot's epochs."""
        first, later = (
            _step_work(self._pilot, training_steps(self._pilot, self._train, seed, epoch)) for epoch in (1, 2)
        )
        fixed_s, token_s = step_costs(later, found[1])
        # Skip the very first step, which also creates the optimizer's state.
        new_s = np.maximum(0.0, np.array(found[0]) - fixed_s - token_s * first)[1:]
        steps = training_steps(bench, self._train, seed, 1)
        n_new = len({tuple(bench.encoded["train"].shape(rows) for rows in step) for step in steps})
        warm_s = float((fixed_s + token_s * _step_work(bench, steps)).sum())
        return n_epochs * warm_s + (float(np.median(new_s)) * n_new if len(new_s) else 0.0)

    def _features_s(self, name: SplitName, bench: Workbench) -> float:
        return self._load_s + self._token_s * _reading_work(bench, name) if len(bench.encoded[name]) else 0.0

    def _hidden_bytes(self, bench: Workbench) -> int:
        """Return the bytes that all rows' hidden states need beyond the pilot's."""
        width, dtype = bench.base.hidden_size, bench.runtime.product_dtype
        whole, part = (sum(n_bytes(one.encoded[name], width, dtype) for name in SPLITS) for one in (bench, self._pilot))
        return max(0, whole - part) if bench.activations.place(whole) == "memory" else 0


def _reading_work(bench: Workbench, name: SplitName) -> float:
    return work(bench, name, reading_passes(bench, name))


def _step_work(bench: Workbench, steps: Sequence[Step]) -> np.ndarray:
    return np.array([work(bench, "train", step) for step in steps])


def _seconds(load: float = 0.0, **parts: float) -> Seconds:
    return Seconds(total=load + sum(parts.values()), **parts)


def step_costs(work_done: np.ndarray, seconds: Sequence[float]) -> tuple[float, float]:
    """Fit nonnegative seconds per step and per token by relative error; both inputs are ``(steps,)``."""
    took = np.maximum(np.array(seconds), 1e-9)
    scale = work_done.max()  # scale the columns alike: the solver uses an absolute tolerance
    columns = np.stack([np.ones(len(took)), work_done / scale], axis=1)
    (fixed_s, token_s), _ = nnls(columns / took[:, None], np.ones(len(took)))
    return float(fixed_s), float(token_s / scale)


def _read_log(path: Path) -> tuple[list[list[float]], list[float]]:
    """Return the seconds of each epoch's steps, and of each epoch's validation."""
    steps: list[list[float]] = [[]]
    validation = []
    for line in path.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["event"] == "step":
            steps[-1].append(event["seconds"])
        else:
            validation.append(max(0.0, event["seconds"] - sum(steps[-1])))
            steps.append([])
    return steps[:-1], validation


def pilot(bench: Workbench, train: TrainConfig) -> Workbench:
    """Return a workbench with a few of the study's training steps, and a few passes of each other split."""
    steps = training_steps(bench, train, 0, 1)
    # The last step of an epoch may be smaller.
    whole = [step for step in steps if sum(map(len, step)) == train.batch_size] or steps
    rows: dict[SplitName, np.ndarray] = {"train": _some(bench, "train", whole, _STEPS)}
    for name in SPLITS[1:]:
        rows[name] = _some(bench, name, [[one] for one in reading_passes(bench, name)], _PASSES)
    return part_of(bench, rows)


def pilot_study(study: ResolvedStudy) -> ResolvedStudy:
    """Return the study with the pilot's number of epochs."""
    return study.with_train(
        study.config.train.model_copy(update={"epochs": EPOCHS, "min_steps": 0, "patience": EPOCHS})
    )


def part_of(bench: Workbench, rows: Mapping[SplitName, np.ndarray]) -> Workbench:
    """Return a workbench with some of the rows; runs on it do not affect the full one."""

    def part(name: SplitName, whole: Split) -> Split:
        return Split([whole.texts[row] for row in rows[name]], _two_classes(whole.labels[rows[name]]))

    return dataclasses.replace(
        bench,
        splits=bench.splits.each(part),
        encoded={name: bench.encoded[name].take(rows[name]) for name in SPLITS},
        activations=bench.activations.empty(cache_folder=None),
        whole=None,
    )


def reading_passes(bench: Workbench, name: SplitName) -> list[Pass]:
    """Return the forward passes over a split, batched as in `feathertune.engine.predict`."""
    lengths = bench.encoded[name].lengths
    return list(cut_passes(np.argsort(lengths, kind="stable"), lengths, token_budget=bench.pretrained.token_budget))


def training_steps(bench: Workbench, train: TrainConfig, seed: int, epoch: int) -> list[Step]:
    """Return the steps of an epoch, batched as in the training loop."""
    return plan_steps(
        bench.encoded["train"].lengths, batch_size=train.batch_size, token_budget=train.token_budget, seed=(seed, epoch)
    )


def work(bench: Workbench, name: SplitName, passes: Iterable[Pass]) -> float:
    """Return the arithmetic of some passes, in units of one token of a short text.

    A block multiplies each token by 12 matrices of size D x D, and attention adds two products with T keys. Together
    that is 1 + T / 6D times the cost of the matrices. Source: Kaplan et al. 2020, arXiv:2001.08361, table 1.
    """
    shapes = [bench.encoded[name].shape(rows) for rows in passes]
    return sum(n * width * (1 + width / (6 * bench.base.hidden_size)) for n, width in shapes)


def spread(sizes: Sequence[float], n: int) -> list[int]:
    """Return the indices of at most `n` sizes, spread evenly from small to large; the largest is always included."""
    order = np.argsort(np.asarray(sizes), kind="stable")
    places = np.linspace(len(order) - 1, (len(order) - 1) / (2 * n), min(n, len(order)))
    return sorted({int(order[round(place)]) for place in places})


def _some(bench: Workbench, name: SplitName, steps: Sequence[Step], n: int) -> np.ndarray:
    sizes = [work(bench, name, step) for step in steps]
    chosen = [rows for index in spread(sizes, n) for rows in steps[index]]
    return np.concatenate(chosen) if chosen else np.zeros(0, np.int64)


def _two_classes(labels: np.ndarray) -> np.ndarray:
    """Return the labels, adding a second class if there is only one, because classifiers reject a single class."""
    if labels.ndim == 2 or not len(labels) or len(set(labels.tolist())) > 1:
        return labels
    changed = labels.copy()
    changed[0] = 0 if labels[0] else 1
    return changed
