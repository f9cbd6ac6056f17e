"""The report, the tables and the terminal where labels are numbers: correlations as they are, never in percent."""

from __future__ import annotations

import csv
import io
import re

import pytest

from feathertune.cli.output.comparison import comparison_text
from feathertune.cli.output.progress import result_line
from feathertune.cli.output.tables import metrics_text, study_text
from feathertune.records import SummaryRow
from feathertune.report import render_report
from feathertune.report.comparison import draw_comparison
from feathertune.report.panels.not_measured import find_gaps
from feathertune.report.side_files import read_answers
from feathertune.report.tables import export_table
from feathertune.study.versus import compare_studies
from feathertune.tasks import REGRESSION
from feathertune.tasks.formats import CORRELATION, SHARE
from number_study import write_study
from study_factory import write_study as write_study_of_classes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, seeds=3, sizes=(250, 1000))
    return folder


@pytest.fixture(scope="module")
def study(folder):
    from feathertune.records import load_study

    return load_study(folder)


@pytest.fixture(scope="module")
def page(folder):
    return render_report(folder).read_text(encoding="utf-8")


def words(page: str) -> str:
    """What a reader sees, without what is said of weights, texts and intervals in percent."""
    body = re.sub(r"<(script|style)>.*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def section(page: str, name: str) -> str:
    return words(page.split(f'<section id="{name}">')[1].split("</section>")[0])


def row_of(study, method):
    return next(row for row in reversed(study.summary) if row.method == method)


def test_the_first_screen_says_correlations(study, page):
    lora = row_of(study, "lora")
    head = words(page.split("</header>")[0])
    assert f"Evidence {lora.score_mean:.3f} rank correlation" in head
    assert f"95% CI [{lora.score_low:.3f}, {lora.score_high:.3f}]" in head
    assert f"Gain over full fine-tuning: {CORRELATION.difference(lora.delta_vs_full)}" in head
    assert REGRESSION.primary.meaning in head


@pytest.mark.parametrize("name", ["accuracy", "cost", "labels", "numbers"])
def test_no_score_is_in_percent(page, name):
    said = section(page, name).replace("95% confidence interval", "").replace("95% CI", "")
    assert "%" not in said
    assert "points" not in said
    assert re.search(r"\b0\.\d{3}\b", said)


def test_how_far_numbers_are_off_stands_beside(study, page):
    said = section(page, "numbers")
    for run in study.runs:
        if run.method == "tfidf":
            expected = (f"{v:.3f}" for v in (run.test.spearman, run.test.pearson, run.test.r2))
            assert " ".join([*expected, f"{run.test.mae:.4g}", f"{run.test.rmse:.4g}"]) in re.sub(" +", " ", said)
    assert "majority 0.000 0.000 0.000" in said


def test_what_is_of_classes_is_left_out(page):
    for name in ("confusions", "each-label", "examples"):
        assert f'id="{name}"' not in page
    said = words(page)
    for word in ("MCC", "ECE", "calibration", "Rows by class", "largest class", "classes", "log loss"):
        assert word not in said, word


def test_the_labels_are_said(study, page):
    said = section(page, "data")
    assert f"numbers {study.data.numbers['train'].in_words()}" in said
    assert "Distribution of labels" in said
    assert "validation" in said


def test_curves_and_lengths_are_correlations(page):
    assert re.search(
        r"lora: \+0\.\d{3} per doubling \(95% CI \[\+0\.\d{3}, \+0\.\d{3}\]\) from 250 to 1,000 rows", words(page)
    )
    assert re.search(r"probe .*0\.\d{3} 0\.\d{3}–0\.\d{3}", section(page, "lengths"))
    assert "mean squared error of standardized labels" in section(page, "learning")
    assert "0.812" in section(page, "setup"), "what a search found"


def test_every_run_has_its_scores(study, page):
    said = section(page, "methods")
    run = next(run for run in study.runs if run.id == "probe-s0")
    assert f"{run.test.spearman:.3f} {run.test.pearson:.3f}" in said
    assert "R2: explained share of the labels&#39; variance" in said


def test_gaps_are_said_as_correlations(study):
    said = find_gaps(study, unreadable=(), without_curve=())
    assert any(re.search(r"the rank correlation of lora is known to about ±0\.0\d\d\.$", line) for line in said)
    assert not any("Rare classes" in line for line in said)


def test_a_study_without_its_files_is_drawn(tmp_path):
    write_study(tmp_path, side_files=False, n_test=60)
    said = words(render_report(tmp_path).read_text(encoding="utf-8"))
    assert "could not be read" not in said, "nothing is drawn from the predictions of numbers"
    assert "Learning curves of 4 finished runs" in said


def test_csv_holds_every_digit(study):
    rows = list(csv.DictReader(io.StringIO(export_table(study, "csv"))))
    assert list(rows[0]) == list(SummaryRow.model_fields)
    for row, summary in zip(rows, study.summary, strict=True):
        assert row["metric"] == "spearman"
        assert float(row["score_mean"]) == summary.score_mean


@pytest.mark.parametrize("form", ["md", "latex"])
def test_tables_for_people_say_correlations(study, form):
    text = export_table(study, form)
    assert "rank correlation" in text
    assert "gain over full" in text
    assert "points" not in text
    assert f"{row_of(study, 'lora').score_mean:.3f}" in text
    assert "Differences are in units of the metric" in text


def test_the_terminal_says_correlations_and_how_the_labels_lie(study, folder):
    said = " ".join(study_text(study, folder).split())
    assert "rank method correlation 95% CI" in said
    lora = row_of(study, "lora")
    assert f"{lora.score_mean:.3f} {lora.score_low:.3f}–{lora.score_high:.3f}" in said
    assert f"labels {study.data.numbers['train'].in_words()}" in said
    assert "lora 0.812 0.823 r 4" in said, "what a search found"
    by_length = said.split("tokens per text")[1].split("training rows")[0]
    assert re.search(r"lora 0\.\d{3} 0\.\d{3} 0\.\d{3} full 0\.", by_length)


def test_scores_of_rows_and_runs_are_said(study):
    run = next(run for run in study.runs if run.id == "probe-s0")
    said = " ".join(metrics_text({"test": run.test}).split())
    assert "Rank rows n correlation Pearson R2 MAE RMSE" in said
    assert f"test 400 {run.test.spearman:.3f} {run.test.pearson:.3f} {run.test.r2:.3f} {run.test.mae:.4g}" in said
    assert result_line(run).startswith(f"probe-s0: rank correlation {run.test.spearman:.3f} on the test rows")


def test_two_studies_side_by_side(folder, tmp_path):
    write_study(tmp_path / "b", seeds=3, seed=1)
    found = compare_studies(folder, tmp_path / "b")
    said = words(draw_comparison(found).decode())
    assert "in units of the metric, paired over the same" in said
    assert "Rank correlation A" in said
    lora = next(pair for pair in found.methods if pair.method == "lora")
    difference, span = lora.paired.difference, CORRELATION.span(lora.paired.low, lora.paired.high)
    assert f"{CORRELATION.difference(difference)} {span}" in said
    terminal = " ".join(comparison_text(found, tmp_path / "page").split())
    assert f"{CORRELATION.difference(difference)} {span}" in terminal


def test_classes_and_numbers_are_not_compared(folder, tmp_path):
    write_study_of_classes(tmp_path / "b", n_test=100)
    found = compare_studies(folder, tmp_path / "b")
    assert found.untested == "other metric"
    said = " ".join(comparison_text(found, tmp_path / "page").split())
    lora = next(pair for pair in found.methods if pair.method == "lora")
    assert f"{lora.a.score_mean:.3f} (" in said
    assert f"{SHARE.score(lora.b.score_mean)} (" in said
    assert "Rank correlation A" in words(draw_comparison(found).decode())


def test_numbers_are_read_or_nothing_is(folder, study, tmp_path):
    run = study.runs[0]
    found = read_answers(folder, run, ())
    assert found.label.shape == found.predicted.shape == (400,)
    assert read_answers(tmp_path, run, ()) is None
    classes = write_study_of_classes(tmp_path, n_test=20)
    assert read_answers(tmp_path, classes.runs[0], ()) is None, "classes are no numbers"
