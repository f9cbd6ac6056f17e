"""A learning curve: `compare --train-sizes`, from the command to the report."""

import json
import re
import shutil

import pytest

from e2e.cli import SMALL, feathertune, in_process
from feathertune.records import comparable, load_study

# 72 training rows.
CURVE = ["--methods", "lora,full", *SMALL, "--seeds", "2", "--set", "method.lora.learning_rate=0.01"]
SIZES = (16, 40, 72)


def command(data, encoder, out, sizes="16,40,all"):
    return ("compare", data, "--base", encoder, *CURVE, "--train-sizes", sizes, "--out", out)


@pytest.fixture(scope="module")
def study(encoder, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("curves") / "study"
    return out, feathertune(*command(data, encoder, out))


def test_every_method_at_every_size(study):
    out, result = study
    assert result.code == 0, result.stderr
    record = load_study(out)
    assert record.status == "complete"
    ids = [run.id for run in record.runs]
    assert len(set(ids)) == len(ids) == len(record.planned_runs)
    found = {(run.method, run.train_rows, run.seed) for run in record.runs}
    for method in ("lora", "full"):
        assert {(method, size, seed) for size in SIZES for seed in (0, 1)} <= found
    # All rows are the same rows for every seed; part of them is another part.
    assert {one for one in found if one[0] == "tfidf"} == {
        ("tfidf", 16, 0),
        ("tfidf", 16, 1),
        ("tfidf", 40, 0),
        ("tfidf", 40, 1),
        ("tfidf", 72, 0),
    }
    assert {one[1] for one in found if one[0] == "foundation"} == {None}
    assert {run.test.n for run in record.runs} == {record.data.n_test}
    steps = {run.train_rows: run.steps for run in record.runs if run.method == "full" and run.seed == 0}
    assert steps[16] < steps[40] < steps[72]
    rows = [(row.method, row.train_rows, row.n_seeds) for row in record.summary]
    assert ("lora", 16, 2) in rows
    assert ("lora", 72, 2) in rows
    assert all(row.delta_vs_full is not None for row in record.summary if row.method == "lora"), "each within its size"


def test_what_more_labels_would_buy_is_said_everywhere(study):
    out, result = study
    record = load_study(out)
    assert {(more.method, more.fewer, more.rows) for more in record.more_labels} == {
        (method, 16, 72) for method in ("majority", "tfidf", "probe", "stack", "lora", "full")
    }
    for more in record.more_labels:
        assert more.low <= more.gain <= more.high
    said = " ".join(result.stdout.replace("\u202f", " ").split())
    assert "training rows 16 40 72" in said
    assert re.search(r"lora: [^:]* per doubling .95% CI [^:]* from 16 to 72 rows", said)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "would more labels help?" in page
    assert "lora, 16 rows:" in page
    assert page.count('id="labels"') == 1


@pytest.mark.slow
def test_the_largest_size_is_the_ordinary_study(study, encoder, data, tmp_path):
    plain = tmp_path / "plain"
    assert feathertune("compare", data, "--base", encoder, *CURVE, "--out", plain).code == 0
    largest = {run.id.replace("-n72", ""): run for run in load_study(study[0]).runs if run.train_rows in (None, 72)}
    ordinary = load_study(plain)
    assert {run.id for run in ordinary.runs} == set(largest)
    for run in ordinary.runs:
        mine = largest[run.id]
        assert (mine.test, mine.validation, mine.steps) == (run.test, run.validation, run.steps)
        assert (study[0] / mine.predictions).read_bytes() == (plain / run.predictions).read_bytes()
    assert load_study(study[0]).verdict == ordinary.verdict
    assert all(run.train_rows is None for run in ordinary.runs)
    assert ordinary.more_labels == []
    assert "would more labels help?" not in (plain / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_curve_that_was_cut_short_goes_on_to_the_same_record(study, encoder, data, tmp_path):
    out = tmp_path / "study"
    shutil.copytree(study[0], out)
    for run in ("lora-n40-s0", "full-n72-s1", "tfidf-n16-s1"):
        shutil.rmtree(out / "runs" / run)
    (out / "study.json").unlink()
    result = feathertune(*command(data, encoder, out))
    assert result.code == 0, result.stderr
    assert "lora-n16-s0" in result.stderr
    assert "(finished earlier)" in result.stderr
    records = [json.loads((folder / "study.json").read_text()) for folder in (study[0], out)]
    assert comparable(records[0]) == comparable(records[1])


def test_other_sizes_are_another_study(study, encoder, data, monkeypatch, capsys):
    refused = in_process(monkeypatch, capsys, *command(data, encoder, study[0], sizes="16,all"))
    assert refused.code == 2
    assert "contains a different study (study.train_sizes" in refused.stderr


@pytest.mark.slow
def test_the_cost_estimate_of_a_curve(encoder, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ("compare", data, "--base", encoder, *CURVE, "--train-sizes", "16,all", "--dry-run")
    found = json.loads(in_process(monkeypatch, capsys, *words, "--json").stdout)["cost_estimate"]["rows"]
    lora = {row["train_rows"]: row for row in found if row["method"] == "lora"}
    assert set(lora) == {16, 72}
    assert [row["n_runs"] for row in lora.values()] == [2, 2]
    assert lora[16]["seconds"]["train"] < lora[72]["seconds"]["train"]
    said = in_process(monkeypatch, capsys, *words)
    assert "training rows" in said.stdout
    assert "lora-n16-s1" in said.stdout


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ("16,many", "'many' is not a number of rows"),
        ("16,-3", "'-3' is not a number of rows"),
        ("16,2.5", "'2.5' is not a number of rows"),
        ("0,16", "0 rows are too few"),
        ("16,16", "16 is listed twice"),
        ("all,all", "all is listed twice"),
        ("16,5000", "has 5,000. Expected 2 (the number of classes) to 72"),
        ("72,all", "72 and all, which are the same rows"),
        ("", "'' is not a number of rows"),
    ],
)
def test_sizes_that_cannot_be(sizes, words, encoder, data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    result = in_process(monkeypatch, capsys, *command(data, encoder, out, sizes=sizes))
    assert result.code == 2
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()[-1]) < 300
    assert "Traceback" not in result.stderr
    assert not out.exists()
