"""A study where labels are numbers: correlations as they are, and nothing about classes."""

from __future__ import annotations

import re

import numpy as np
import pytest

from evidence import codes, parameters
from feathertune.records import LabelSummary, NumberMetrics, load_study, save_study
from feathertune.report.wording import caveat_texts, verdict_text
from feathertune.statistics.inference import equivalence, paired_difference, seed_interval
from feathertune.study.running.run_files import read_predictions
from feathertune.study.verdict.evidence import Evidence
from feathertune.study.verdict.mislabelled import find_mislabelled
from feathertune.study.verdict.summary import RunPredictions, summarise_sizes
from feathertune.study.verdict.verdict import judge
from feathertune.study.versus import compare_studies
from feathertune.tasks import REGRESSION, task_of_study
from feathertune.tasks.scores import SPEARMAN
from measured import spearman
from number_study import METHODS, FakeMethod, write_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, seeds=3)
    return folder


@pytest.fixture
def study(folder):
    return load_study(folder)


def made(tmp_path, **changes):
    """A study in which some methods are others than usual."""
    methods = [FakeMethod(m.name, m.kind, changes.get(m.name, m.correlation), m.trainable, m.seeds) for m in METHODS]
    return write_study(tmp_path / "made", methods=methods, seeds=2, side_files=False)


def judged(study, *, summary=None, runs=None):
    """The verdict on a study of which some records are others."""
    return judge(Evidence(REGRESSION, study.data, summary or study.summary, runs or study.runs, study.pairs))


def test_rows_are_of_the_correlations_of_the_predictions(study, folder):
    answers = {}
    for method in ("tfidf", "lora", "full"):
        saved = [read_predictions(folder / run.predictions) for run in study.runs if run.method == method]
        answers[method] = spearman(saved[0].labels, np.stack([one.predicted for one in saved]))
    rows = {row.method: row for row in study.summary}
    for method, own_answers in answers.items():
        row, estimate = rows[method], seed_interval(own_answers)
        assert row.metric == "spearman"
        assert (row.score_mean, row.score_low, row.score_high) == (estimate.mean, estimate.low, estimate.high)
        own = [run.test.spearman for run in study.runs if run.method == method]
        assert row.score_mean == pytest.approx(np.mean(own), abs=1e-11)
    difference = paired_difference(answers["lora"], answers["full"])
    assert (rows["lora"].delta_vs_full, rows["lora"].delta_low) == (difference.mean, difference.low)
    assert rows["lora"].p_equivalent == equivalence(answers["lora"], answers["full"], margin=0.01)
    pair = next(pair for pair in study.pairs if {pair.a, pair.b} == {"lora", "full"})
    assert pair.delta == pytest.approx(difference.mean, abs=1e-6)
    assert pair.rows_low < pair.delta < pair.rows_high


def test_a_record_is_read_as_it_was_written(study, folder):
    assert {type(run.test) for run in study.runs} == {NumberMetrics}
    assert task_of_study(study) is REGRESSION
    assert study.data.numbers["train"].median == 2.5
    text = (folder / "study.json").read_text(encoding="utf-8")
    save_study(study, folder)
    assert (folder / "study.json").read_text(encoding="utf-8") == text


def test_the_verdict_is_in_correlations(study):
    rows = {row.method: row for row in study.summary}
    lora, full = rows["lora"], rows["full"]
    assert study.verdict.recommended == "lora"
    assert codes(study.verdict.reasons)[0] == "recommended"
    assert codes(study.verdict.reasons)[-1] == "untrained"
    assert parameters(study.verdict.reasons, "recommended") == {
        "method": "lora",
        "kind": "peft",
        "score": lora.score_mean,
        "low": lora.score_low,
        "high": lora.score_high,
        "n_test": 400,
        "full": full.score_mean,
        "margin": 0.01,
        "against_full": "not_clear",
        "trained": 443_906,
        "trained_share": 443_906 / 22_713_986,
    }
    untrained = {"score": rows["foundation"].score_mean, "chance": 0.0}
    assert parameters(study.verdict.reasons, "untrained") == untrained
    found = parameters(study.verdict.caveats, "too_few_test_rows")
    assert (found["method"], found["rival"], found["n_test"], found["margin"]) == ("lora", "full", 400, 0.01)
    assert found["n_needed"] == pytest.approx(400 * (found["half_width_of_rows"] / 0.01) ** 2, rel=0.05)
    text = " ".join([verdict_text(study), *caveat_texts(study)])
    assert "points" not in text
    assert "accuracy" not in text


@pytest.mark.parametrize(("method", "kind"), [("tfidf", "baseline"), ("probe", "probe")])
def test_a_linear_model_of_numbers_can_be_enough(tmp_path, method, kind):
    verdict = made(tmp_path, **{method: 0.9}).verdict
    assert verdict.recommended == method
    assert parameters(verdict.reasons, "recommended")["kind"] == kind


def test_what_learned_nothing_is_a_caveat(tmp_path):
    study = write_study(tmp_path, n_test=200, side_files=False)
    constant = next(run for run in study.runs if run.method == "majority").test
    assert (constant.spearman, constant.pearson) == (0, 0)
    runs = [run.model_copy(update={"test": constant}) if run.method == "lora" else run for run in study.runs]
    rows = [row.model_copy(update={"score_mean": -0.02}) if row.method == "probe" else row for row in study.summary]
    found = judged(study, summary=rows, runs=runs).caveats
    assert parameters(found, "learned_nothing") == {"methods": ["lora"], "n": 2, "total": 2}
    assert parameters(found, "not_above_majority") == {"methods": {"probe": -0.02}, "majority": 0.0}


def test_numbers_that_are_far_off_are_a_caveat(study):
    assert parameters(study.verdict.caveats, "far_off") is None
    runs = [
        run.model_copy(update={"test": run.test.model_copy(update={"r2": -0.25})}) if run.method == "lora" else run
        for run in study.runs
    ]
    found = judged(study, runs=runs).caveats
    assert parameters(found, "far_off") == {"method": "lora", "r2": pytest.approx(-0.25)}


def test_nothing_is_stated_about_classes(study, folder):
    assert SPEARMAN.caveats(study.data) == []
    assert find_mislabelled(REGRESSION, study.runs, folder) == []


def test_a_learning_curve_is_of_correlations(tmp_path):
    study = write_study(tmp_path, seeds=2, sizes=(250, 500, 1000), side_files=False)
    lora = [row for row in study.summary if row.method == "lora"]
    assert [row.train_rows for row in lora] == [250, 500, 1000]
    more = next(more for more in study.more_labels if more.method == "lora")
    assert more.gain == pytest.approx(lora[2].score_mean - lora[1].score_mean)
    assert more.low < more.gain < more.high


def test_buckets_are_ordered_within_themselves(study, folder):
    saved = read_predictions(folder / "runs" / "tfidf-s0" / "predictions.parquet")
    assert len(study.by_length) > 1
    lengths = np.random.default_rng(1).integers(4, 120, 400)
    for bucket in study.by_length:
        rows = (lengths >= bucket.shortest) & (lengths <= bucket.longest)
        score = next(score for score in bucket.scores if score.method == "tfidf")
        assert score.score == spearman(saved.labels[rows], saved.predicted[None, rows]).score


def test_runs_without_predictions_are_told(study):
    with pytest.raises(ValueError, match="have no test predictions"):
        RunPredictions(SPEARMAN, np.zeros(400), {}).answers(study.runs)
    one = study.runs[0]
    predictions = RunPredictions(SPEARMAN, np.arange(4.0), {one.id: np.arange(4.0)})
    (row,) = summarise_sizes([one], predictions, margin=0.01)
    assert row.score_mean == 1


def test_numbers_of_any_size_are_said_in_a_few_digits():
    summary = LabelSummary(mean=1234567.8, sd=0.00012345, low=-12.3456, q25=0.5, median=1, q75=9999.4, high=10000.6)
    assert summary.in_words() == (
        "from -12.35 to 10,001 (quartiles 0.5, 1, 9999), mean 1,234,568, standard deviation 0.0001234"
    )


# -- two studies ---------------------------------------------------------------


def beside(tmp_path, folder, **kwargs):
    other = tmp_path / "other"
    write_study(other, **{"seeds": 3, **kwargs})
    return compare_studies(folder, other)


def test_a_study_beside_itself_orders_alike(folder, tmp_path):
    found = beside(tmp_path, folder)
    assert found.untested is None
    assert len(found.methods) == len(METHODS)
    assert all(pair.paired.alike for pair in found.methods)


def test_a_clear_difference_of_two_studies_is_said_as_a_correlation(folder, tmp_path):
    better = [FakeMethod(m.name, m.kind, 0.97 if m.name == "lora" else m.correlation, 0, m.seeds) for m in METHODS]
    found = beside(tmp_path, folder, methods=better)
    lora = next(pair for pair in found.methods if pair.method == "lora")
    assert lora.paired.difference == pytest.approx(lora.b.score_mean - lora.a.score_mean)
    assert re.search(r"lora \(\+0\.1\d\d, \+0\.\d{3} to \+0\.\d{3}\)", found.verdict[0])


def test_of_a_learning_curve_the_most_rows_are_compared(tmp_path):
    for name, correlation in (("a", 0.8), ("b", 0.9)):
        methods = [FakeMethod("lora", "peft", correlation), METHODS[-1]]
        write_study(tmp_path / name, methods=methods, sizes=(100, 1000))
    found = compare_studies(tmp_path / "a", tmp_path / "b")
    lora = next(pair for pair in found.methods if pair.method == "lora")
    assert lora.a.train_rows == lora.b.train_rows == 1000
    assert lora.paired.difference == pytest.approx(lora.b.score_mean - lora.a.score_mean)


def test_where_nothing_is_clear_it_is_said_how_much_is_open(folder, tmp_path):
    found = beside(tmp_path, folder, seed=1)
    assert re.search(r"up to 0\.\d{3}", found.verdict[0])


def test_other_labels_are_other_rows(folder, tmp_path):
    found = beside(tmp_path, folder, unit=2.0)
    assert found.untested == "other test rows"
    assert [pair.paired for pair in found.methods] == [None] * len(METHODS)
    keys = [place.key for place in found.differing if place.key.startswith("data.numbers")]
    assert keys == ["data.numbers.test", "data.numbers.train", "data.numbers.validation"]


def test_damaged_predictions_are_not_tested(folder, tmp_path):
    other = tmp_path / "other"
    write_study(other, seeds=3)
    path = other / "runs" / "lora-s1" / "predictions.parquet"
    path.write_bytes(path.read_bytes()[:100])
    found = compare_studies(folder, other)
    lora = next(pair for pair in found.methods if pair.method == "lora")
    assert lora.untested == "predictions cannot be read"
