"""Long documents from the command to the answer: what decides stands at the end, where ``head`` never looks."""

import json
import random

import pytest

from e2e.cli import SMALL, in_process, write_csv
from feathertune.bundle.files import read_info
from feathertune.records import Reading, load_study
from feathertune.report import render_report

RATE = ["--set", "train.learning_rate=0.01", "--epochs", "8", "--set", "train.patience=8"]


def documents(n, seed=0):
    """Half short, half of 30 to 45 words; the last word is the label's."""
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        label = ("neg", "pos")[i % 2]
        words = [rng.choice(["the", "film", "plot", "scene", "it", "was"]) for _ in range(rng.choice([6, 6, 30, 45]))]
        rows.append((" ".join([*words, str(i % 10), {"neg": "bad", "pos": "great"}[label]]), label))
    return list(dict.fromkeys(rows))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("data") / "documents.csv", documents(200))


@pytest.fixture
def run(monkeypatch, capsys):
    return lambda *arguments: in_process(monkeypatch, capsys, *arguments)


@pytest.mark.parametrize("long", ["head-tail", "windows"])
def test_what_stands_at_the_end_is_learned_and_predicted(long, encoder, data, tmp_path, run):
    out = tmp_path / "bundle"
    trained = run("train", data, "--base", encoder, *SMALL, *RATE, "--long", long, "--out", out, "--json")
    assert trained.code == 0, trained.stderr
    assert json.loads(trained.stdout)["test"]["accuracy"] > 0.9
    reading = {"head-tail": Reading(long="head-tail"), "windows": Reading(long="windows", stride=4, max_windows=8)}
    assert read_info(out).reading == reading[long]
    new = [row for row in documents(60, seed=1) if len(row[0].split()) > 20]
    asked = run("evaluate", out, write_csv(tmp_path / "new.csv", new), "--json")
    # 35 long ones: by chance it is between 0.33 and 0.67.
    assert json.loads(asked.stdout)["accuracy"] > 0.8


def test_a_study_says_what_was_read_and_scores_by_length(encoder, data, tmp_path, run):
    out = tmp_path / "study"
    methods = ["--methods", "lora:top_layers=1", "--set", "data.max_windows=2", "--set", "data.stride=0"]
    done = run("compare", data, "--base", encoder, *SMALL, *methods, "--long", "windows", "--out", out)
    assert done.code == 0, done.stderr
    study = load_study(out)
    assert [run.id for run in study.runs if run.status == "failed"] == []
    assert study.data.reading == Reading(long="windows", stride=0, max_windows=2)
    cached = next(run for run in study.runs if run.method == "lora:top_layers=1")
    assert cached.hyperparameters["frontier"] == 1, "windows are kept as hidden states, too"
    assert cached.notes == []
    assert 0.2 < study.bases[0].unread_fraction < 0.5
    short, long = study.by_length
    assert short.longest <= 16 < long.shortest
    assert short.n + long.n == study.data.n_test
    assert short.unread_fraction == 0 < long.unread_fraction
    methods = [row.method for row in study.summary]
    assert [one.method for one in short.scores] == [one.method for one in long.scores] == methods
    for row in study.summary:
        parts = [(b.n, one.score) for b in study.by_length for one in b.scores if one.method == row.method]
        assert sum(n * score for n, score in parts) / study.data.n_test == pytest.approx(row.score_mean)
    for word in (
        "have more than 16 tokens and are read in up to 2 windows of 16; ",
        "tokens per text",
        "never read",
    ):
        assert word in " ".join(done.stdout.split())
    page = render_report(out).read_text(encoding="utf-8")
    section = page[page.index('<section id="lengths">') : page.index('<section id="learning">')]
    for word in (f"{long.shortest}–{long.longest}", "unread tokens", "lora:top_layers=1", "2 windows of 16"):
        assert word in section
    assert "Text between the windows of very long texts" in page


def test_words_that_do_not_fit_are_told(encoder, data, tmp_path, run):
    def refused(*arguments):
        found = run("train", data, "--base", encoder, *SMALL, "--out", tmp_path / "none", *arguments)
        assert found.code == 2
        assert "Traceback" not in found.stderr
        return " ".join(found.stderr.split())

    said = refused("--long", "headtail")
    assert "Setting 'data.long' is 'headtail'" in said
    assert "Did you mean 'head-tail'? Known: head, head-tail, windows." in said
    said = refused("--long", "windows", "--set", "data.stride=14")
    assert "data.stride is 14, but a window of --max-length 16 holds only 14 tokens" in said
    assert "Set data.stride to 7 or less." in said


@pytest.mark.slow  # the same as test_cost, on windows
def test_the_cost_estimate_of_windows(encoder, data, tmp_path, run):
    done = run("compare", data, "--base", encoder, *SMALL, "--methods", "lora", "--long", "windows", "--dry-run")
    assert done.code == 0, done.stderr
    assert "read in up to 8 windows of 16" in done.stdout
    assert "runs together: about" in done.stdout
