"""What is said of a study where labels are numbers: correlations as they are, and no word of classes."""

from __future__ import annotations

import re

import numpy as np
import pytest
from feathertune.study.verdict.primary_metric import choose_metric, metric_caveats, why_metric

from feathertune.errors import ConfigError
from feathertune.records import LabelSummary, NumberMetrics, load_study, save_study
from feathertune.statistics.inference import equivalence, paired_difference, seed_interval
from feathertune.statistics.ranking import Ranking
from feathertune.study.running.run_files import read_numbers
from feathertune.study.verdict.mislabelled import find_suspects
from feathertune.study.verdict.summary import answers_of, summarise_sizes
from feathertune.study.verdict.verdict import judge
from feathertune.study.versus.comparison import compare_studies
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


def caveat(study, words):
    return [line for line in study.verdict.caveats if words in line]


def test_rows_are_of_the_correlations_of_the_predictions(study, folder):
    labels = read_numbers(folder / study.runs[0].predictions)[0]
    rankings = {
        method: Ranking(
            labels,
            np.stack([read_numbers(folder / run.predictions)[1] for run in study.runs if run.method == method]),
        )
        for method in ("tfidf", "lora", "full")
    }
    rows = {row.method: row for row in study.summary}
    for method, ranking in rankings.items():
        row, estimate = rows[method], seed_interval(ranking)
        assert row.score == "spearman"
        assert (row.score_mean, row.score_low, row.score_high) == (estimate.mean, estimate.low, estimate.high)
        own = [run.test.spearman for run in study.runs if run.method == method]
        assert row.score_mean == pytest.approx(np.mean(own), abs=1e-11)
    difference = paired_difference(rankings["lora"], rankings["full"])
    assert (rows["lora"].delta_vs_full, rows["lora"].delta_low) == (difference.mean, difference.low)
    assert rows["lora"].p_equivalent == equivalence(rankings["lora"], rankings["full"], margin=0.01)
    pair = next(pair for pair in study.pairs if {pair.a, pair.b} == {"lora", "full"})
    assert pair.delta == pytest.approx(difference.mean, abs=1e-6)
    assert pair.rows_low < pair.delta < pair.rows_high


def test_a_record_is_read_as_it_was_written(study, folder):
    assert all(isinstance(run.test, NumberMetrics) for run in study.runs)
    assert study.score_name == "rank correlation"
    assert study.data.numbers["train"].median == 2.5
    text = (folder / "study.json").read_text(encoding="utf-8")
    save_study(study, folder)
    assert (folder / "study.json").read_text(encoding="utf-8") == text


def test_the_verdict_says_correlations(study):
    text = study.verdict.text
    assert re.match(
        r"Take lora: a rank correlation of 0\.8\d\d \(0\.\d{3} to 0\.\d{3}\) on these 400 test rows, not clearly "
        r"different from full fine-tuning \(0\.8\d\d\), with 2\.0 % of its parameters trained\. ",
        text,
    )
    assert re.search(r"a new head stands at -?0\.\d{3}; chance is 0\. ", text)
    assert text.endswith(why_metric("spearman", study.data)[0])
    (rows,) = caveat(study, "test rows cannot tell lora and full apart")
    assert re.search(
        r"difference is known to 0\.0\d\d either way\. To see 0\.010, about [\d,]+ rows are needed "
        r"\(400 x \(0\.0\d\d / 0\.010\)\^2\)\.$",
        rows,
    )
    said = " ".join([text, *study.verdict.caveats])
    assert "points" not in said
    assert "accuracy" not in said


def test_a_linear_model_of_numbers_is_ridge_regression(tmp_path):
    cheap = made(tmp_path, tfidf=0.9).verdict
    assert cheap.recommended == "tfidf"
    assert cheap.text.startswith(
        "You need no transformer: tf-idf with ridge regression reaches a rank correlation of 0."
    )
    frozen = made(tmp_path, probe=0.9).verdict
    assert frozen.text.startswith("The frozen features with ridge regression (probe) already do it: a rank correlation")


def test_what_learned_nothing_is_said(tmp_path):
    study = write_study(tmp_path, n_test=200, side_files=False)
    constant = next(run for run in study.runs if run.method == "majority").test
    assert (constant.spearman, constant.pearson) == (0, 0)
    runs = [run.model_copy(update={"test": constant}) if run.method == "lora" else run for run in study.runs]
    rows = [row.model_copy(update={"score_mean": -0.02}) if row.method == "probe" else row for row in study.summary]
    found = judge(rows, study.data, runs, study.pairs, margin=0.01).caveats
    assert (
        "lora seems to answer one and the same number in 2 of 2 runs (no correlation): it learned nothing; try another "
        "learning rate or more epochs."
    ) in found
    assert "probe (-0.020) is not above always answering the mean of the training labels (0.000)." in found


def test_numbers_that_are_far_off_are_a_caveat(study):
    assert not caveat(study, "further off")
    runs = [
        run.model_copy(update={"test": run.test.model_copy(update={"r2": -0.25})}) if run.method == "lora" else run
        for run in study.runs
    ]
    found = judge(study.summary, study.data, runs, study.pairs, margin=0.01).caveats
    assert any(line.startswith("The numbers of lora are further off") and "(R2 -0.250)" in line for line in found)


def test_a_score_of_classes_is_refused_of_numbers_and_the_other_way_round():
    assert choose_metric("auto", "regression", []) == "spearman"
    assert choose_metric("spearman", "regression", []) == "spearman"
    for wanted in ("accuracy", "balanced_accuracy"):
        with pytest.raises(
            ConfigError, match=f"study.metric is {wanted}, a share of right answers, but here the labels"
        ):
            choose_metric(wanted, "regression", [])
    for task in ("single_label", "multi_label"):
        with pytest.raises(ConfigError, match=r"study\.metric is spearman.* but here the labels are classes"):
            choose_metric("spearman", task, [5, 5])


def test_nothing_is_said_of_classes(study, folder):
    assert metric_caveats("spearman", study.data) == []
    assert find_suspects(study.runs, folder) == []


def test_a_learning_curve_is_of_correlations(tmp_path):
    study = write_study(tmp_path, seeds=2, sizes=(250, 500, 1000), side_files=False)
    lora = [row for row in study.summary if row.method == "lora"]
    assert [row.train_rows for row in lora] == [250, 500, 1000]
    more = next(more for more in study.more_labels if more.method == "lora")
    assert more.gain == pytest.approx(lora[2].score_mean - lora[1].score_mean)
    assert more.low < more.gain < more.high


def test_buckets_are_ordered_within_themselves(study, folder):
    labels, predicted = read_numbers(folder / "runs" / "tfidf-s0" / "predictions.parquet")
    lengths = np.random.default_rng(1).integers(4, 120, 400)
    for bucket in study.by_length:
        rows = (lengths >= bucket.shortest) & (lengths <= bucket.longest)
        score = next(score for score in bucket.scores if score.method == "tfidf")
        assert score.score == Ranking(labels[rows], predicted[None, rows]).score


def test_runs_without_predictions_are_told(study):
    with pytest.raises(ValueError, match="have no test predictions"):
        answers_of(study.runs, {}, np.zeros(400))
    one = study.runs[0]
    (row,) = summarise_sizes([one], {one.id: np.arange(4.0)}, np.arange(4.0), margin=0.01)
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
