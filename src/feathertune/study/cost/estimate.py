"""The price of a study before it starts: seconds and memory of each method on this machine, from a few real batches.

Each method runs once, by the code of a real run, on a miniature of the study (`feathertune.study.cost.pilot`): a few
whole steps, from short to long, and a few whole passes of validation and test rows. The seconds of its parts are then
weighed with all steps and passes of the real plan, whose shapes are known (`feathertune.study.cost.pass_shapes`). The
miniatures run in the order of the study, so that what libraries prepare once for each shape is paid by whoever pays it
there.

An early stop is not foreseen: seconds are those of all epochs. A machine that is busy with something else while it is
measured, or later, makes the price wrong by just that.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from feathertune.baselines import BASELINES
from feathertune.data.sources.collector import SPLITS, SplitName
from feathertune.errors import RunFailedError
from feathertune.gc_freeze import loaded_objects_aside
from feathertune.records import RunRecord, Seconds
from feathertune.records.cost_estimate import Price, PriceRow
from feathertune.report.format import units
from feathertune.runtime import hardware, stopwatch, versions
from feathertune.study.cost.pass_shapes import Pass, work
from feathertune.study.cost.pilot import miniature, passes_of, rows_of_passes, rows_of_steps, some_of_each
from feathertune.study.cost.training_cost import MINIATURE_EPOCHS, TrainingScale
from feathertune.study.observe import Silent
from feathertune.study.running.runs import execute
from feathertune.study.running.training_log import TRAINING_COST
from feathertune.study.running.workbench import by_rows

if TYPE_CHECKING:
    from feathertune.study.observe import Observer
    from feathertune.study.planning.plan import Plan
    from feathertune.study.planning.resolve import ResolvedStudy
    from feathertune.study.run_spec import RunSpec
    from feathertune.study.running.pretrained import FrozenFeatures
    from feathertune.study.running.workbench import Workbench

_READ_PASSES = 3
_MOST_STEPS, _LEAST_STEPS = 6, 2
# Of the steps of one miniature; an encoder that is slower than that still makes the fewest steps.
_STEPS_S = 3.0
# What reads texts alone is tried on so many rows, and on four times as many until it takes so long or has them all.
# A fit on few rows says little of one on many: 500 reviews take 0.6 s, 2,000 take 4 s and 5,000 take 6 s.
_TEXT_ROWS, _TEXTS_S = 500, 5.0
_READ_AND_MEAN_BYTES = 2 * 4
_SCALED_BYTES = 2 * 8  # scikit-learn's own, float64


def estimate(bench: Workbench, study: ResolvedStudy, observer: Observer) -> Price:
    """Measure and weigh; nothing is kept of it but the numbers.

    Args:
        bench: Data, encoder and machine of the study.
        study: Its settings and runs.
        observer: Is told what is being measured.

    Returns:
        One row for each method of the plan, in its order, and for each number of rows of a learning curve. A method
        that breaks is a row that says so.
    """
    plan = study.plan
    scratch_folder = tempfile.TemporaryDirectory(prefix="feathertune-price-")
    with loaded_objects_aside(), stopwatch() as watch, scratch_folder as scratch:
        measuring = _Measuring(bench, study, Path(scratch))
        n_runs = Counter((spec.method, spec.train_rows) for spec in plan.runs)
        rows: dict[tuple[str, int | None], PriceRow] = {}
        trials_s: dict[tuple[str, int | None], float] = {}
        for spec in plan.runs:
            if (key := (spec.method, spec.train_rows)) in rows:
                continue
            observer.stage(f"measuring {spec.method}")
            try:
                row = measuring.row(spec)
            except RunFailedError as error:
                row = PriceRow(method=spec.method, kind=spec.kind, n_runs=n_runs[key], error=str(error))
            rows[key] = row.model_copy(update={"n_runs": n_runs[key], "train_rows": spec.train_rows})
            n_trials = study.config.study.search if spec.space else 0
            if n_trials and (took := rows[key].seconds) is not None:
                trials_s[key] = n_trials * (took.total - took.tokenize - took.cache - took.evaluate)
                said = (
                    f"{n_trials} trials before its runs, about {units.seconds(trials_s[key])} if none is stopped early"
                )
                rows[key] = rows[key].model_copy(update={"notes": [*rows[key].notes, said]})
        study_s = measuring.shared_seconds(plan) + sum(trials_s.values())
        study_s += sum(row.n_runs * (row.own_seconds or 0.0) for row in rows.values())
    return Price(
        plan=plan.fingerprint,
        rows=list(rows.values()),
        study_seconds=study_s,
        measured_seconds=watch.seconds,
        hardware=hardware(bench.runtime),
        versions=versions(),
    )


class _Measuring:
    """What the rows of a price share.

    Args:
        bench: The whole study's.
        study: The study.
        scratch: A folder that may be filled.
    """

    def __init__(self, bench: Workbench, study: ResolvedStudy, scratch: Path) -> None:
        self._bench, self._study, self._scratch = bench, study, scratch
        self._by_rows = by_rows(bench)
        # No rows need be kept for validation.
        self._splits = [name for name in SPLITS if len(bench.encoded[name])]
        passes = {name: rows_of_passes(bench, name, _READ_PASSES) for name in SPLITS}
        self._reading = miniature(bench, passes)
        self._passes = passes
        self._later: list[tuple[float, float]] = []
        self._training: TrainingScale | None = None
        self._read: dict[SplitName, FrozenFeatures] = {}
        self._tried: dict[str, RunRecord] = {}
        self._hidden: dict[tuple[str, int | None], tuple[int, float]] = {}
        bench.load_encoder(seed=0)  # the first time, the file may come from a disk
        with stopwatch() as load:
            bench.load_encoder(seed=0)
        self._load_s = load.seconds

    def row(self, spec: RunSpec) -> PriceRow:
        """The price of one method.

        Raises:
            RunFailedError: If it breaks.
        """
        bench = self._bench_of(spec)
        if spec.method not in BASELINES:
            return self._trained(spec, bench)
        return {"texts": self._reads_texts, "features": self._probe, "encoder": self._foundation}[
            BASELINES[spec.method].reads
        ](spec, bench)

    def shared_seconds(self, plan: Plan) -> float:
        """What the runs share, counted as often as it is made: features once, hidden states when the boundary moves."""
        seconds = sum(self._features_s(name, self._bench) for name in self._splits if name != "train")
        every = (None, len(self._bench.encoded["train"]))
        readers = [run for run in plan.runs if run.kind != "baseline"]
        parts = {(run.train_rows, 0 if run.train_rows in every else run.seed): run for run in readers}
        at = None
        for spec in parts.values():
            seconds += self._features_s("train", self._bench_of(spec))
        for spec in plan.runs:
            frontier, hidden_s = self._hidden.get((spec.method, spec.train_rows), (0, 0.0))
            if spec.method not in BASELINES and (here := (frontier, spec.train_rows, spec.seed)) != at:
                seconds += hidden_s
                at = here
        return seconds

    def _bench_of(self, spec: RunSpec) -> Workbench:
        """The rows of a run; the price is that of one seed's."""
        return self._by_rows(spec.train_rows, 0)

    def _run(self, spec: RunSpec, bench: Workbench) -> RunRecord:
        record = execute(spec, self._study, bench, self._scratch, Silent())
        if record.status == "failed":
            raise RunFailedError(str(record.error))
        return record

    def _once(self, spec: RunSpec) -> RunRecord:
        """A run on the miniature that reads frozen features, whose price follows for any number of rows."""
        if spec.method not in self._tried:
            self._tried[spec.method] = self._run(spec, self._reading)
        return self._tried[spec.method]

    def _features(self, name: SplitName) -> FrozenFeatures:
        """The miniature's frozen features of a split; the work and seconds of each pass but the first are kept."""
        if name in self._read:
            return self._read[name]
        ends: list[float] = []
        found = self._read[name] = self._reading.features(name, lambda _: ends.append(time.perf_counter()))
        passes = passes_of(self._reading, name)
        self._later += zip((self._work([one]) for one in passes[1:]), np.diff(ends).tolist(), strict=True)
        return found

    def _features_s(self, name: SplitName, bench: Workbench) -> float:
        """Seconds of a split's frozen features: those of the miniature, and the passes that it left out."""
        found = self._features(name).seconds
        part = self._work(passes_of(self._reading, name))
        return max(self._load_s, found + (self._work(passes_of(bench, name)) - part) * self._per_work_s())

    def _per_work_s(self) -> float:
        """Seconds of a token that is read, from all passes that were measured; the first of each split also loads."""
        if self._later:
            return sum(seconds for _, seconds in self._later) / sum(amount for amount, _ in self._later)
        whole = sum(self._work(passes_of(self._reading, name)) for name in self._read)
        return max(0.0, sum(found.seconds - self._load_s for found in self._read.values())) / whole

    def _work(self, passes: list[Pass]) -> float:
        return work(passes, self._bench.base.hidden_size)

    def _features_bytes(self, bench: Workbench, names: tuple[SplitName, ...], each: int) -> int:
        """Memory of the vectors that the miniature does not have."""
        more = sum(bench.encoded[name].n_sequences - self._reading.encoded[name].n_sequences for name in names)
        return max(0, more) * bench.base.hidden_size * each

    def _foundation(self, spec: RunSpec, bench: Workbench) -> PriceRow:
        for name in self._splits:  # in the order of the run
            if name != "train":
                self._features(name)
        read_s = self._features("test").seconds
        record = self._once(spec)
        head_s = max(0.0, record.seconds.evaluate - read_s)
        evaluate_s = head_s + self._features_s("test", bench)
        tokenize_s = record.seconds.tokenize
        return PriceRow(
            method=spec.method,
            kind=spec.kind,
            n_runs=1,
            seconds=Seconds(total=tokenize_s + evaluate_s, tokenize=tokenize_s, evaluate=evaluate_s),
            memory_bytes=(record.peak_memory_bytes or 0) + self._features_bytes(bench, ("test",), _READ_AND_MEAN_BYTES),
            own_seconds=self._load_s + head_s,
        )

    def _probe(self, spec: RunSpec, bench: Workbench) -> PriceRow:
        read_s = {name: self._features(name).seconds for name in self._splits}
        record = self._once(spec)
        n = {name: len(bench.encoded[name]) / len(self._passes[name]) for name in self._splits}
        found = record.seconds
        test_s = max(0.0, found.evaluate - read_s["test"]) * n["test"]
        train_s = found.train * n["train"]
        parts = {
            "tokenize": sum(bench.tokenize_seconds.values()),
            "cache": sum(self._features_s(name, bench) for name in self._splits if name != "test"),
            "train": train_s,
            "evaluate": test_s + self._features_s("test", bench),
        }
        more = self._features_bytes(bench, SPLITS, _READ_AND_MEAN_BYTES)
        more += self._features_bytes(bench, ("train",), _SCALED_BYTES)
        return PriceRow(
            method=spec.method,
            kind=spec.kind,
            n_runs=1,
            seconds=Seconds(total=sum(parts.values()), **parts),
            memory_bytes=(record.peak_memory_bytes or 0) + more,
            own_seconds=train_s + test_s,
        )

    def _reads_texts(self, spec: RunSpec, bench: Workbench) -> PriceRow:
        """By more and more rows, until it is known or takes long; what is left is taken to grow with the rows."""
        share = min(1.0, _TEXT_ROWS / len(bench.encoded["train"]))
        tried: list[tuple[float, RunRecord]] = []
        while not tried or (tried[-1][0] < 1.0 and tried[-1][1].seconds.total < _TEXTS_S):
            share = min(1.0, 4 * share) if tried else share
            record = self._run(spec, miniature(bench, some_of_each(bench, share)))
            tried.append((share, record))
        parts = {
            part: extrapolated([(share, getattr(record.seconds, part)) for share, record in tried])
            for part in ("train", "evaluate")
        }
        bytes_ = tried[-1][1].peak_memory_bytes or 0
        if len(tried) > 1:
            bytes_ = round(extrapolated([(share, record.peak_memory_bytes or 0) for share, record in tried]))
        total_s = sum(parts.values())
        return PriceRow(
            method=spec.method,
            kind=spec.kind,
            n_runs=1,
            seconds=Seconds(total=total_s, **parts),
            memory_bytes=bytes_,
            own_seconds=total_s,
        )

    def _trained(self, spec: RunSpec, bench: Workbench) -> PriceRow:
        scale = self._training = self._training or self._scale()
        found = scale.price(spec, bench, features_seconds=self._features_s("train", bench))
        self._hidden[spec.method, spec.train_rows] = found.frontier, found.hidden_seconds
        return found.row

    def _scale(self) -> TrainingScale:
        """The miniature of the methods: as many steps as may be measured in a few seconds."""
        bench = self._bench
        self._features("train")
        a_text = self._work(passes_of(bench, "train")) / len(bench.encoded["train"])
        step_s = TRAINING_COST * self._per_work_s() * a_text * self._study.config.train.batch_size
        n_steps = int(max(_LEAST_STEPS, min(_MOST_STEPS, _STEPS_S / max(1e-9, step_s * MINIATURE_EPOCHS))))
        rows = {**self._passes, "train": rows_of_steps(bench, self._study.config.train, n_steps)}
        return TrainingScale(self._study, miniature(bench, rows), self._scratch, load_seconds=self._load_s)


def extrapolated(tried: Sequence[tuple[float, float]]) -> float:
    """What all rows cost, on the line through the last two of what shares of them cost; through zero if there is one.

    Args:
        tried: Shares of the rows (0, 1], ascending, and what each cost.

    Returns:
        Never less than the last, which had some of the rows.
    """
    share, cost = tried[-1]
    before_share, before = tried[-2] if len(tried) > 1 else (0.0, 0.0)
    return cost + max(0.0, cost - before) / (share - before_share) * (1.0 - share)
