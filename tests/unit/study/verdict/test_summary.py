from __future__ import annotations

import numpy as np
import pytest

from feathertune.records import RunRecord, Seconds
from feathertune.records.row_names import row_name
from feathertune.statistics.inference import equivalence, paired_difference, seed_interval
from feathertune.study.verdict.summary import RunPredictions, more_labels, summarise, summarise_sizes
from feathertune.tasks.scores import ACCURACY, BALANCED_ACCURACY, SUBSET_ACCURACY
from measured import accuracy

RNG = np.random.default_rng(0)
N = 400


def make_run(method, kind, seed=0, *, status="complete", seconds=1.0, memory=100, trainable=10, size=1, rows=None):
    return RunRecord(
        id=f"{method}-{seed}" if rows is None else f"{method}-{rows}-{seed}",
        train_rows=rows,
        method=method,
        kind=kind,
        seed=seed,
        status=status,
        trainable_parameters=trainable,
        adapter_bytes=size,
        seconds=Seconds(total=seconds),
        peak_memory_bytes=memory,
    )


def predictions(correct):
    """Predictions that are right as given, by run."""
    n = max((len(rows) for rows in correct.values()), default=1)
    return RunPredictions(ACCURACY, np.ones(n, bool), correct)


def summarised(runs, correct, margin=0.05):
    return summarise(runs, predictions(correct).answers(runs), margin=margin)


def drawn(share):
    return RNG.random(N) < share


@pytest.fixture
def study():
    runs = [
        make_run("full", "full", 0, seconds=100, memory=1000, trainable=1000),
        make_run("full", "full", 1, seconds=120, memory=3000, trainable=1000),
        make_run("majority", "baseline", trainable=0, seconds=0.0, memory=None),
        *(make_run("foundation", "baseline", s, trainable=0, seconds=2.0) for s in range(5)),
        make_run("probe", "probe", trainable=20, seconds=5.0),
        make_run("lora", "peft", 0, seconds=50, memory=400, trainable=100),
        make_run("lora", "peft", 1, seconds=60, memory=None, trainable=100),
        make_run("lora", "peft", 2, status="failed", seconds=9999, trainable=7777),
    ]
    shares = {"full": 0.9, "majority": 0.5, "foundation": 0.5, "probe": 0.7, "lora": 0.88}
    correct = {run.id: drawn(shares[run.method]) for run in runs if run.status == "complete"}
    return runs, correct


def test_rows_are_grouped_in_order_with_baselines_first(study):
    rows = summarised(*study)
    assert [row.method for row in rows] == ["majority", "foundation", "probe", "full", "lora"]
    assert [row.n_seeds for row in rows] == [1, 5, 1, 2, 2]
    assert [row.kind for row in rows] == ["baseline", "baseline", "probe", "full", "peft"]


def test_fields_of_a_row(study):
    runs, correct = study
    lora = summarised(runs, correct)[-1]
    expected = seed_interval(accuracy([correct["lora-0"], correct["lora-1"]]))
    shown = (lora.score_mean, lora.score_sd, lora.score_low, lora.score_high)
    assert shown == expected
    assert lora.seconds_mean == 55.0
    assert lora.memory_mean_bytes == 400.0
    assert lora.trainable_parameters == 100
    assert lora.speedup_vs_full == 2.0
    assert lora.memory_vs_full == 0.2


def test_differences_are_paired_with_full_and_corrected_together(study):
    runs, correct = study
    rows = {row.method: row for row in summarised(runs, correct)}
    full = accuracy([correct["full-0"], correct["full-1"]])
    raw = {}
    for method in ("majority", "foundation", "probe", "lora"):
        own = accuracy([correct[run.id] for run in runs if run.method == method and run.id in correct])
        difference = paired_difference(own, full)
        raw[method] = difference.p
        row = rows[method]
        assert (row.delta_vs_full, row.delta_low, row.delta_high) == difference[:3]
    assert rows["lora"].p_vs_full_holm == max(raw["lora"], rows["probe"].p_vs_full_holm)
    smallest = min(raw, key=raw.get)
    assert rows[smallest].p_vs_full_holm == pytest.approx(4 * raw[smallest])


def test_equivalence_is_with_full_each_row_by_itself(study):
    runs, correct = study
    rows = {row.method: row for row in summarised(runs, correct, margin=0.3)}
    answered = predictions(correct).answers(runs)
    for method in ("majority", "foundation", "probe", "lora"):
        assert rows[method].p_equivalent == equivalence(answered[method], answered["full"], margin=0.3)
    assert rows["lora"].p_equivalent < 0.05 < rows["majority"].p_equivalent
    assert rows["full"].p_equivalent is None


def test_full_is_not_compared_with_itself(study):
    full = next(row for row in summarised(*study) if row.method == "full")
    assert full.delta_vs_full is full.delta_low is full.delta_high is full.p_vs_full_holm is None
    assert full.speedup_vs_full == full.memory_vs_full == 1.0


def test_what_was_not_measured_is_null(study):
    majority = summarised(*study)[0]
    assert majority.memory_mean_bytes is majority.memory_vs_full is None
    assert majority.speedup_vs_full is None  # it took no time at all


@pytest.mark.parametrize("state", ["absent", "failed"])
def test_without_full_nothing_is_compared(study, state):
    runs, correct = study
    if state == "absent":
        runs = [run for run in runs if run.method != "full"]
    else:
        runs = [run.model_copy(update={"status": "failed"}) if run.method == "full" else run for run in runs]
    rows = summarised(runs, correct)
    assert "full" not in [row.method for row in rows]
    for row in rows:
        assert (
            row.delta_vs_full
            is row.p_vs_full_holm
            is row.p_equivalent
            is row.speedup_vs_full
            is row.memory_vs_full
            is None
        )
    assert any(row.pareto for row in rows)


def test_nothing_complete_gives_no_rows():
    assert summarised([make_run("lora", "peft", status="failed")], {}) == []


def test_a_complete_run_without_predictions_is_refused(study):
    runs, correct = study
    del correct["probe-0"]
    with pytest.raises(ValueError, match="probe-0"):
        summarised(runs, correct)


def _front(**methods):
    """Methods as (right answers of 10, seconds, memory, trained parameters); those on the front."""
    runs, correct = [], {}
    for name, (right, seconds, memory, trainable) in methods.items():
        runs.append(make_run(name, "peft", seconds=seconds, memory=memory, trainable=trainable))
        correct[f"{name}-0"] = np.arange(10) < right
    return {row.method for row in summarised(runs, correct) if row.pareto}


def test_pareto_front():
    assert _front(a=(9, 5, 50, 100), b=(8, 6, 60, 110)) == {"a"}
    assert _front(a=(9, 5, 50, 100), b=(9, 5, 50, 101)) == {"a"}
    assert _front(a=(9, 5, 50, 100), b=(8, 4, 60, 110)) == {"a", "b"}
    assert _front(a=(9, 5, 50, 100), b=(8, 6, 40, 110)) == {"a", "b"}
    assert _front(a=(9, 5, 50, 100), b=(8, 6, 60, 90)) == {"a", "b"}
    assert _front(a=(9, 5, 50, 100), b=(9, 5, 50, 100)) == {"a", "b"}


def test_pareto_ignores_memory_that_was_not_measured():
    assert _front(a=(9, 5, None, 100), b=(8, 6, 1, 110)) == {"a"}


def first_right(share):
    """The first rows of a hundred are right, so that differences between two of these are exact."""
    return np.arange(100) < round(100 * share)


@pytest.fixture
def curve():
    """Two methods at 50, 100 and 400 rows; the foundation knows no rows."""
    shares = {"lora": {50: 0.5, 100: 0.6, 400: 0.8}, "full": {50: 0.5, 100: 0.7, 400: 0.7}}
    runs = [make_run("foundation", "baseline", rows=None)]
    runs += [
        make_run(name, "full" if name == "full" else "peft", rows=rows) for rows in (50, 100, 400) for name in shares
    ]
    correct = {run.id: first_right(shares[run.method][run.train_rows]) for run in runs[1:]}
    return runs, {**correct, "foundation-0": first_right(0.5)}


def test_a_learning_curve_has_a_row_for_each_size_compared_within_itself(curve):
    runs, correct = curve
    rows = summarise_sizes(runs, predictions(correct), margin=0.01)
    assert [(row.method, row.train_rows) for row in rows] == [
        *((name, size) for size in (50, 100) for name in ("lora", "full")),
        ("foundation", None),
        ("lora", 400),
        ("full", 400),
    ]
    by_key = {(row.method, row.train_rows): row for row in rows}
    assert by_key["lora", 100].delta_vs_full == pytest.approx(-0.1)
    assert by_key["lora", 400].delta_vs_full == pytest.approx(0.1)
    assert by_key["foundation", None].delta_vs_full == pytest.approx(-0.2), "against full at its best"


def test_what_the_last_doubling_bought(curve):
    runs, correct = curve
    lora, full = more_labels(runs, predictions(correct))
    # From 100 to 400 rows are two doublings; 200 are not there.
    assert (lora.method, lora.fewer, lora.rows) == ("lora", 100, 400)
    assert lora.gain == pytest.approx(0.1)
    whole = paired_difference(accuracy([correct["lora-400-0"]]), accuracy([correct["lora-100-0"]]))
    assert (lora.low, lora.high) == pytest.approx((whole.low / 2, whole.high / 2))
    assert full.gain == 0
    assert full.low < 0 < full.high
    two = [run for run in runs if run.train_rows != 100]
    assert {more.fewer for more in more_labels(two, predictions(correct))} == {50}


def test_without_two_sizes_nothing_is_said_of_more_labels(curve, study):
    runs, correct = curve
    curve_of, without = predictions(correct), predictions(study[1])
    assert more_labels(study[0], without) == []
    assert more_labels([run for run in runs if run.train_rows == 400], curve_of) == []
    failed = [run.model_copy(update={"status": "failed"}) if run.train_rows == 400 else run for run in runs]
    assert {more.rows for more in more_labels(failed, curve_of)} == {100}


def test_what_was_said_before_is_kept_beside_what_came_true(study):
    runs, correct = study
    said = [
        run.model_copy(update={"predicted_seconds": 40.0 + run.seed, "predicted_memory_bytes": 500}) for run in runs
    ]
    rows = {row.method: row for row in summarise_sizes(said, predictions(correct), margin=0.01)}
    assert (rows["lora"].predicted_seconds, rows["lora"].predicted_memory_bytes) == (40.5, 500)
    rows = summarise_sizes(runs, predictions(correct), margin=0.01)
    assert [row.predicted_seconds for row in rows] == [None] * 5


def test_rows_are_in_the_primary_score():
    labels = np.array([0, 0, 0, 1])
    runs, by_run = [make_run("lora", "peft")], {"lora-0": np.array([0, 0, 1, 1])}
    for score, expected in ((ACCURACY, 3 / 4), (BALANCED_ACCURACY, (2 / 3 + 1) / 2)):
        answers = RunPredictions(score, labels, by_run).answers(runs)
        (row,) = summarise(runs, answers, margin=0.01)
        assert (row.metric, row.score_mean) == (score.name, pytest.approx(expected))
        assert answers["lora"].measure is score.measure


def test_a_set_is_right_as_a_whole():
    labels = np.array([[1, 0], [0, 1], [1, 1]])
    by_run = {"lora-0": np.array([[1, 0], [1, 1], [1, 1]]), "lora-1": labels}
    runs = [make_run("lora", "peft", seed) for seed in (0, 1)]
    answers = RunPredictions(SUBSET_ACCURACY, labels, by_run).answers(runs)
    (row,) = summarise(runs, answers, margin=0.01)
    assert row.score_mean == pytest.approx(5 / 6)
    assert answers["lora"].seed_scores == pytest.approx([2 / 3, 1])


def test_each_base_has_its_own_reference(study):
    runs, correct = study
    text = ("majority",)

    def on(base):
        return {run.id: run.method if run.method in text else row_name(run.method, base) for run in runs}

    two = [run.model_copy(update={"method": on("a")[run.id]}) for run in runs]
    # The second base has no full fine-tuning.
    two += [
        run.model_copy(update={"method": on("b")[run.id], "id": f"b-{run.id}"})
        for run in runs
        if run.method not in ("full", *text)
    ]
    right = correct | {f"b-{name}": ~rows for name, rows in correct.items()}
    alone = {row.method: row for row in summarised(runs, correct)}
    both = {row.method: row for row in summarised(two, right)}
    methods = ("foundation", "probe", "lora")
    names = [f"{method}@{base}" for base in "ab" for method in (*methods, "full")]
    assert sorted(both) == sorted(["majority", *names[:-1]])
    assert list(both)[-3:] == names[4:7], "base by base"
    for method in methods:
        assert both[f"{method}@a"].delta_vs_full == alone[method].delta_vs_full
        assert both[f"{method}@a"].speedup_vs_full == alone[method].speedup_vs_full
        assert both[f"{method}@b"].delta_vs_full is None
    assert both["majority"].delta_vs_full is both["full@a"].delta_vs_full is None
