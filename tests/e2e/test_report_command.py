"""`feathertune report`: what is made of records alone."""

from __future__ import annotations

import csv
import json

import pytest

from e2e.cli import in_process
from feathertune import storage
from feathertune.records import SummaryRow
from study_factory import write_study


@pytest.fixture
def study(tmp_path):
    write_study(tmp_path / "study", seeds=2, n_test=200)
    return tmp_path / "study"


def test_the_table_goes_to_stdout_and_nothing_else_is_written(study, monkeypatch, capsys):
    before = sorted(study.rglob("*"))
    result = in_process(monkeypatch, capsys, "report", study, "--table", "csv")
    assert (result.code, result.stderr) == (0, "")
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert list(rows[0]) == list(SummaryRow.model_fields)
    accuracy = {row["method"]: row["score_mean"] for row in rows}
    record = json.loads((study / "study.json").read_text())
    assert accuracy == {row["method"]: json.dumps(row["score_mean"]) for row in record["summary"]}
    assert sorted(study.rglob("*")) == before


@pytest.mark.parametrize("form", ["csv", "md", "latex"])
def test_the_table_goes_to_a_file(study, tmp_path, monkeypatch, capsys, form):
    shown = in_process(monkeypatch, capsys, "report", study, "--table", form)
    path = tmp_path / "table.txt"
    command = ("report", study, "--table", form, "--output", path)
    result = in_process(monkeypatch, capsys, *command)
    assert (result.code, result.stdout) == (0, "")
    assert path.read_text(encoding="utf-8") == shown.stdout
    refused = in_process(monkeypatch, capsys, *command)
    assert refused.code == 2
    assert f"{path} already exists" in refused.stderr
    path.write_text("older")
    assert in_process(monkeypatch, capsys, *command, "--overwrite").code == 0
    assert path.read_text(encoding="utf-8") == shown.stdout


def test_a_full_disk_leaves_the_older_table(study, tmp_path, monkeypatch, capsys):
    path = tmp_path / "table.csv"
    path.write_text("older")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    result = in_process(monkeypatch, capsys, "report", study, "--table", "csv", "--output", path, "--overwrite")
    assert result.code == 2
    assert "table.csv cannot be written: No space left on device" in result.stderr
    assert path.read_text() == "older"
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.endswith(".tmp")] == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--table", "tex"], ["form of a table 'tex'", "Did you mean 'latex'?"]),
        (["--table", "md", "--json"], ["Both --table md and --json"]),
        (["--output", "x.csv"], ["--output x.csv requires a table", "--table"]),
        (["--table", "csv", "--output", "nowhere/x.csv"], ["nowhere/x.csv cannot be written", "--output"]),
        (["--table", "csv", "--output", "."], ["is a folder", "--output"]),
        (["study", "--table", "csv"], ["--table csv exports the table of one study, but two were given"]),
        (["--out", "x.html"], ["--out x.html requires two studies to compare, but only one was given"]),
        (["study"], ["are the same study. Expected two different study folders."]),
        (["nowhere"], ["nowhere is not a study folder"]),
    ],
)
def test_wrong_options_are_told(study, tmp_path, monkeypatch, capsys, options, expected):
    monkeypatch.chdir(tmp_path)
    result = in_process(monkeypatch, capsys, "report", study, *options)
    assert result.code == 2
    assert "Traceback" not in result.stderr
    for words in expected:
        assert words in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


def test_no_study_is_told(tmp_path, monkeypatch, capsys):
    result = in_process(monkeypatch, capsys, "report", tmp_path, "--table", "csv")
    assert result.code == 2
    assert "is not a study folder" in result.stderr


@pytest.fixture
def other(tmp_path):
    write_study(tmp_path / "other", seeds=1, n_test=200)
    return tmp_path / "other"


def test_two_studies_are_compared_on_the_terminal_and_a_page(study, other, monkeypatch, capsys):
    before = sorted(study.rglob("*"))
    result = in_process(monkeypatch, capsys, "report", study, other)
    assert (result.code, result.stderr) == (0, "")
    assert f"A  {study}: sample:minilm on sample:imdb" in result.stdout
    assert f"Comparison: {other / 'comparison.html'}" in result.stdout
    for method in ("majority", "lora", "full"):
        assert method in result.stdout
    assert "Comparison of two studies" in (other / "comparison.html").read_text(encoding="utf-8")
    assert sorted(study.rglob("*")) == before
    again = in_process(monkeypatch, capsys, "report", study, other)
    assert again.stdout == result.stdout, "the page in the study's own folder is drawn anew, as its report is"


def test_a_comparison_goes_where_it_is_told_and_replaces_nothing_unasked(study, other, tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.html"
    page.write_text("mine")
    refused = in_process(monkeypatch, capsys, "report", study, other, "--out", page)
    assert refused.code == 2
    assert "page.html already exists. Pass another --out" in refused.stderr
    assert page.read_text() == "mine"
    assert in_process(monkeypatch, capsys, "report", study, other, "--out", page, "--overwrite").code == 0
    assert "Comparison of two studies" in page.read_text(encoding="utf-8")
    assert not (other / "comparison.html").exists()


def test_a_comparison_as_json(study, other, monkeypatch, capsys):
    result = in_process(monkeypatch, capsys, "report", study, other, "--json")
    found = json.loads(result.stdout)
    assert found["untested"] is None
    assert [pair["method"] for pair in found["methods"]][:2] == ["majority", "tfidf"]


def test_a_comparison_in_a_browser(study, other, browser_page, monkeypatch, capsys):
    assert in_process(monkeypatch, capsys, "report", study, other).code == 0
    page = browser_page.page
    for width in (360, 768, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto((other / "comparison.html").as_uri())
        assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
        assert [chart.is_visible() for chart in page.locator("svg.chart").all()].count(True) == 1
    assert browser_page.problems == []
    assert all(url.startswith("file:") for url in browser_page.requests)
