"""From one method's run on a miniature to what its real run will cost: each part weighed with all of its work.

Not for baselines, which train no encoder: see `feathertune.study.cost.estimate`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import nnls

from feathertune.data.sources.collector import SPLITS, SplitName
from feathertune.engine.prefix_cache.activations import n_bytes
from feathertune.engine.training.head import n_head_steps
from feathertune.errors import RunFailedError
from feathertune.methods import method_named
from feathertune.records import METRICS_FILE, Seconds
from feathertune.records.cost_estimate import PriceRow
from feathertune.runtime import stopwatch
from feathertune.study.cost.pass_shapes import Step, features_of, shapes_of, training_steps, work
from feathertune.study.cost.pilot import passes_of
from feathertune.study.observe import Silent
from feathertune.study.running.prepare import begins_with_head
from feathertune.study.running.runs import execute
from feathertune.study.running.top_layers_sweep import choose_depth, depths, sweep_tokens

if TYPE_CHECKING:
    from feathertune.records import RunRecord
    from feathertune.study.planning.resolve import ResolvedStudy
    from feathertune.study.run_spec import RunSpec
    from feathertune.study.running.workbench import Workbench

# One in which every shape is new, and two that say what a step takes after that.
MINIATURE_EPOCHS = 3


@dataclass(frozen=True)
class Found:
    """A method's price, and what it shares with others: hidden states at a boundary, 0 where there are none."""

    row: PriceRow
    frontier: int
    hidden_seconds: float


@dataclass(frozen=True)
class _Measured:
    """What a method took on the miniature.

    Attributes:
        log: Seconds of each epoch's steps, and of its scores on validation.
        sweep_seconds: Of a sweep over depths.
    """

    record: RunRecord
    log: tuple[list[list[float]], list[float]]
    sweep_seconds: float
    notes: list[str]


@dataclass(frozen=True)
class StepCosts:
    """What a step takes: a sum over `features_of`, once for each new shape, and once at the start; all in seconds."""

    weights: np.ndarray
    new_shape: float
    start: float

    def seconds(self, epoch: list[Step], *, epochs: int, n_shapes: int) -> float:
        """Of so many epochs like this one."""
        warm = float((features_of(epoch) @ self.weights).sum())
        return self.start + self.new_shape * n_shapes + epochs * warm


def fit_costs(first: list[Step], first_s: np.ndarray, later: list[Step], later_s: np.ndarray) -> StepCosts:
    """Learn what steps cost.

    Args:
        first: Steps in which shapes occurred for the first time.
        first_s: Their seconds.
        later: The same steps, again.
        later_s: Their seconds.

    Returns:
        Costs that are nowhere negative, fitted by relative error: a short step counts as much as a long one.
    """
    features = features_of(later)
    # Columns of one size: the solver stops by an absolute tolerance.
    size = features.max(axis=0)
    weights, _ = nnls(features / size / later_s[:, None], np.ones(len(later)))
    weights = weights / size
    extra = first_s - features_of(first) @ weights
    seen: set[int] = set()
    new = []
    for step, seconds in zip(first, extra, strict=True):
        fresh = shapes_of([step]) - seen
        seen |= fresh
        if fresh:
            new.append(float(seconds) / len(fresh))
    # Whatever happens once, such as making the optimizer's state, is in the first step; the others tell the shapes.
    new_shape = max(0.0, float(np.median(new[1:]))) if len(new) > 1 else 0.0
    return StepCosts(weights, new_shape, max(0.0, float(extra[0]) - new_shape * len(shapes_of(first[:1]))))


class TrainingScale:
    """The miniature of a study's methods, and how much more work the study is.

    Args:
        study: The study.
        small: The miniature, which trains for `MINIATURE_EPOCHS` epochs.
        scratch: A folder that may be filled.
        load_seconds: Of loading the encoder.
    """

    def __init__(self, study: ResolvedStudy, small: Workbench, scratch: Path, *, load_seconds: float) -> None:
        epochs = {"epochs": MINIATURE_EPOCHS, "min_steps": 0, "patience": MINIATURE_EPOCHS}
        self._study = study
        self._short = study.with_train(study.config.train.model_copy(update=epochs))
        self._small, self._scratch, self._load_s = small, scratch, load_seconds
        self._measured: dict[str, _Measured] = {}
        # The miniature's own features, before anything is measured that would be charged with them.
        self._small_features_s = small.features("train", lambda _: None).seconds

    def price(self, spec: RunSpec, bench: Workbench, *, features_seconds: float) -> Found:
        """Run a method on the miniature, once whatever the rows, and weigh what it took.

        Args:
            spec: The method and its options.
            bench: With the rows of the run.
            features_seconds: Of the frozen features of its training rows.

        Raises:
            RunFailedError: If it breaks.
        """
        if spec.method not in self._measured:
            self._measured[spec.method] = self._measure(spec)
        return self._weigh(spec, self._measured[spec.method], bench, features_seconds)

    def _measure(self, spec: RunSpec) -> _Measured:
        spec, sweep_s, notes = self._with_a_depth(spec)
        record = execute(spec, self._short, self._small, self._scratch, Silent())
        if record.status == "failed":
            raise RunFailedError(str(record.error))
        log = _read_log(self._scratch / "runs" / spec.id / METRICS_FILE)
        return _Measured(record, log, sweep_s, notes)

    def _weigh(self, spec: RunSpec, measured: _Measured, bench: Workbench, features_s: float) -> Found:
        record, small = measured.record, self._small
        took = record.seconds
        whole, part = ({name: _work_of(one, name) for name in SPLITS} for one in (bench, small))
        head_first = begins_with_head(method_named(spec.method), self._study.config.train)
        hidden_s = max(0.0, took.cache - (self._small_features_s if head_first else 0.0)) * sum(whole.values())
        hidden_s /= sum(part.values())
        head_ratio = n_head_steps(len(bench.encoded["train"])) / n_head_steps(len(small.encoded["train"]))
        load_s = took.total - took.tokenize - took.cache - took.head - took.train - took.evaluate
        parts = {
            "tokenize": sum(bench.tokenize_seconds.values()),
            "cache": hidden_s + (features_s if head_first else 0.0),
            "head": took.head * head_ratio,
            "train": self._train_seconds(
                spec.seed,
                measured,
                bench,
                validation_ratio=whole["validation"] / part["validation"] if part["validation"] else 0.0,
            ),
            "evaluate": took.evaluate * whole["test"] / part["test"],
        }
        # To load the encoder for each depth takes the same whatever the rows.
        fixed_s = min(measured.sweep_seconds, len(depths(bench.base.n_layers)) * self._load_s)
        sweep_s = fixed_s + (measured.sweep_seconds - fixed_s) * sweep_tokens(bench) / sweep_tokens(small)
        total_s = sweep_s + load_s + sum(parts.values())
        frontier = int(record.hyperparameters.get("frontier", 0))
        row = PriceRow(
            method=spec.method,
            kind=spec.kind,
            n_runs=1,
            seconds=Seconds(total=total_s, **parts, ship=took.ship),
            memory_bytes=(record.peak_memory_bytes or 0) + (self._hidden_bytes(bench) if frontier else 0),
            own_seconds=total_s - parts["tokenize"] - parts["cache"] + took.ship,
            notes=measured.notes,
        )
        return Found(row, frontier, hidden_s)

    def _with_a_depth(self, spec: RunSpec) -> tuple[RunSpec, float, list[str]]:
        """A sweep over depths is measured for itself; what it will find is not known, so all layers are priced."""
        if not spec.sweeps_depth:
            return spec, 0.0, []
        with stopwatch() as sweep:
            choose_depth(spec, self._short, self._small)
        note = "top_layers is found by training: this is the sweep, and then all layers"
        return spec.at_depth(self._small.base.n_layers), sweep.seconds, [note]

    def _train_seconds(self, seed: int, measured: _Measured, bench: Workbench, *, validation_ratio: float) -> float:
        (steps_s, validation_s), small = measured.log, self._small
        epochs = [self._epoch(small, seed, epoch) for epoch in range(1, MINIATURE_EPOCHS + 1)]
        costs = fit_costs(
            epochs[0],
            np.array(steps_s[0]),
            [step for epoch in epochs[1:] for step in epoch],
            np.array([seconds for epoch in steps_s[1:] for seconds in epoch]),
        )
        n = self._study.config.train.epochs_on(len(bench.encoded["train"]))
        whole = [self._epoch(bench, seed, epoch) for epoch in range(1, min(n, 2) + 1)]
        n_shapes = len(shapes_of(step for epoch in whole for step in epoch))
        training_s = costs.seconds(whole[0], epochs=n, n_shapes=n_shapes)
        first_s, *later_s = validation_s
        validated_s = validation_ratio * (first_s + (n - 1) * float(np.mean(later_s)))
        # Between the steps: the log, the progress.
        n_small = sum(len(epoch) for epoch in steps_s)
        between_s = max(0.0, measured.record.seconds.train - sum(map(sum, steps_s)) - sum(validation_s)) / n_small
        return training_s + validated_s + between_s * n * len(whole[0])

    def _epoch(self, bench: Workbench, seed: int, epoch: int) -> list[Step]:
        train = self._study.config.train
        return training_steps(
            bench.encoded["train"], batch_size=train.batch_size, token_budget=train.token_budget, seed=(seed, epoch)
        )

    def _hidden_bytes(self, bench: Workbench) -> int:
        """What the whole study's hidden states take of the memory beyond the miniature's."""
        width, dtype = bench.base.hidden_size, bench.runtime.product_dtype
        whole, part = (sum(n_bytes(one.encoded[name], width, dtype) for name in SPLITS) for one in (bench, self._small))
        return max(0, whole - part) if bench.activations.place(whole) == "memory" else 0


def _work_of(bench: Workbench, name: SplitName) -> float:
    return work(passes_of(bench, name), bench.base.hidden_size)


def _read_log(path: Path) -> tuple[list[list[float]], list[float]]:
    """Seconds of each epoch's steps, and of what came after them: the scores on validation."""
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
