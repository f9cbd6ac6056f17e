"""The cost estimate of `compare --dry-run` and `inspect --methods`, and its record next to the actual costs."""

import json
import re

import pytest

from e2e.cli import SMALL, feathertune, in_process
from feathertune.config import load_config
from feathertune.records import comparable, load_study
from feathertune.records.cost_estimate import CostEstimate
from feathertune.study.compare import prepare
from feathertune.study.cost import estimate
from feathertune.study.observe import Silent

METHODS = ["--methods", "lora,full", *SMALL]


def command(data, encoder, *more):
    return ("compare", data, "--base", encoder, *METHODS, *more)


@pytest.fixture(scope="module")
def study(encoder, data, tmp_path_factory):
    """An estimate, and the study after it, each in a process of its own."""
    out = tmp_path_factory.mktemp("estimated") / "study"
    estimated = feathertune(*command(data, encoder, "--seeds", "2", "--out", out, "--dry-run"))
    before = sorted(path.name for path in out.iterdir())
    return out, estimated, before, feathertune(*command(data, encoder, "--seeds", "2", "--out", out))


def test_the_estimate_is_printed_kept_and_nothing_started(study):
    out, estimated, before, _ = study
    assert estimated.code == 0, estimated.stderr
    assert before == ["cost_estimate.json"]
    said = " ".join(estimated.stdout.split())
    for words in ("before training", "All 13 runs together: about", f"The cost estimate is in {out}"):
        assert words in said
    cost = CostEstimate.model_validate_json((out / "cost_estimate.json").read_text())
    assert {row.method: row.n_runs for row in cost.rows} == {
        "majority": 1,
        "tfidf": 1,
        "foundation": 5,
        "probe": 1,
        "stack": 1,
        "lora": 2,
        "full": 2,
    }
    for row in cost.rows:
        assert row.error is None
        assert 0 < row.seconds.total < 60
        assert row.memory_bytes > 1e8
        assert row.own_seconds > 0
    lora = cost.row("lora").seconds
    assert min(lora.tokenize, lora.head, lora.train, lora.evaluate, lora.ship) > 0
    assert lora.total > lora.tokenize + lora.cache + lora.head + lora.train + lora.evaluate
    assert cost.row("full").seconds.ship < lora.ship, "the weights of full are not kept"


def test_the_study_records_the_estimate(study):
    out, _, _, result = study
    assert result.code == 0, result.stderr
    cost = CostEstimate.model_validate_json((out / "cost_estimate.json").read_text())
    record = load_study(out)
    for run in record.runs:
        said = cost.row(run.method)
        assert run.predicted_seconds == said.seconds.total
        assert run.predicted_memory_bytes == said.memory_bytes
        # No claim: the machine may do anything in between. But not off by an order.
        assert abs(run.predicted_memory_bytes / run.peak_memory_bytes - 1) < 0.3
    for row in record.summary:
        assert row.predicted_seconds == pytest.approx(cost.row(row.method).seconds.total)
    assert "estimated time" in result.stdout
    assert "lora" in result.stdout


@pytest.mark.slow
def test_an_estimated_study_is_the_same_study(study, encoder, data, tmp_path):
    plain = tmp_path / "plain"
    assert feathertune(*command(data, encoder, "--seeds", "2", "--out", plain)).code == 0
    records = [json.loads((folder / "study.json").read_text()) for folder in (study[0], plain)]
    assert comparable(records[0]) == comparable(records[1])
    assert all(run["predicted_seconds"] is None for run in records[1]["runs"])


@pytest.mark.slow
def test_without_out_nothing_is_written(encoder, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    result = in_process(monkeypatch, capsys, *command(data, encoder, "--dry-run", "--json"))
    assert result.code == 0, result.stderr
    found = json.loads(result.stdout)
    assert [row["method"] for row in found["cost_estimate"]["rows"]][-2:] == ["lora", "full"]
    assert found["cost_estimate"]["plan"] == found["fingerprint"]
    assert list(tmp_path.iterdir()) == []


def test_the_estimate_of_another_plan_is_no_prediction(study, encoder, data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "study"
    out.mkdir()
    (out / "cost_estimate.json").write_bytes((study[0] / "cost_estimate.json").read_bytes())
    few = ("compare", data, "--base", encoder, "--methods", "", *SMALL, "--out", out)
    assert in_process(monkeypatch, capsys, *few).code == 0
    assert all(run.predicted_seconds is None for run in load_study(out).runs)


@pytest.mark.slow
def test_a_folder_of_another_study_or_of_a_stranger_is_refused(study, encoder, data, tmp_path, monkeypatch, capsys):
    other = in_process(monkeypatch, capsys, *command(data, encoder, "--epochs", "1", "--out", study[0], "--dry-run"))
    assert other.code == 2
    assert "contains a different study" in other.stderr
    (tmp_path / "thesis.doc").write_text("mine")
    refused = in_process(monkeypatch, capsys, *command(data, encoder, "--out", tmp_path, "--dry-run"))
    assert refused.code == 2
    assert "was not written by feathertune" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]


@pytest.mark.slow
def test_a_method_that_breaks_is_a_row_that_says_so(encoder, data, monkeypatch, capsys):
    broken = command(data, encoder, "--set", "method.lora.learning_rate=1e30", "--dry-run")
    result = in_process(monkeypatch, capsys, *broken)
    assert result.code == 0, result.stderr
    said = " ".join(result.stdout.split())
    assert "lora failed in the pilot run: RunFailedError: The loss is nan" in said
    assert "full" in said


@pytest.mark.slow
def test_the_estimate_names_a_sweep_over_depths(encoder, data, monkeypatch, capsys):
    few = ("compare", data, "--base", encoder, "--methods", "lora", *SMALL, "--top-layers", "auto", "--dry-run")
    found = json.loads(in_process(monkeypatch, capsys, *few, "--json").stdout)["cost_estimate"]["rows"]
    (note,) = next(row["notes"] for row in found if row["method"] == "lora")
    assert "the estimate covers the sweep and training all layers" in note


@pytest.mark.parametrize(("layers", "frontier"), [(1, 1), (2, 0)])
def test_hidden_states_are_counted_where_they_are_kept(layers, frontier, encoder, data):
    options = {"data.source": str(data), "base.id": str(encoder), "data.max_length": 16, "study.methods": ["ia3"]}
    prepared = prepare(load_config(options=options | {"method.top_layers": layers}), Silent())
    row = estimate(prepared, Silent()).rows[-1]
    assert (row.shared_seconds > 1e-4) == (frontier > 0)
    assert row.seconds.cache > row.shared_seconds, "with the features of the training rows"


def test_a_fused_method_after_its_own_training(encoder, data):
    options = {"data.source": str(data), "base.id": str(encoder), "data.max_length": 16}
    config = load_config(options={**options, "study.methods": ["lora", "lora+tfidf"]})
    rows = {row.method: row for row in estimate(prepare(config, Silent()), Silent()).rows}
    lora, fused = rows["lora"], rows["lora+tfidf"]
    assert (lora.error, fused.error) == (None, None)
    assert fused.seconds.train >= lora.seconds.train
    assert (lora.own_seconds > lora.seconds.train, fused.shared_seconds) == (True, 0.0)
    assert fused.own_seconds < fused.seconds.total, "the study trains the model once"


@pytest.mark.slow
def test_inspect_with_methods_says_both(encoder, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ("inspect", data, "--base", encoder, *METHODS)
    result = in_process(monkeypatch, capsys, *words)
    assert result.code == 0, result.stderr
    said = " ".join(result.stdout.split())
    assert "120 rows, 2 labels" in said
    assert re.search(r"All \d+ runs together: about", said)
    found = json.loads(in_process(monkeypatch, capsys, *words, "--json").stdout)
    assert found["classes"] == {"neg": 60, "pos": 60}
    assert [row["method"] for row in found["cost_estimate"]["rows"]][-2:] == ["lora", "full"]
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_method_is_told_before_anything_is_read(encoder, data, monkeypatch, capsys):
    result = in_process(monkeypatch, capsys, "inspect", data, "--base", encoder, "--methods", "lorra")
    assert result.code == 2
    assert "Unknown method 'lorra'. Did you mean 'lora'?" in result.stderr
    assert result.stdout == ""


def test_only_what_is_computed_counts_as_progress(encoder, data):
    options = {"data.source": str(data), "base.id": str(encoder), "data.max_length": 16, "study.methods": ["lora"]}
    bench = prepare(load_config(options=options), Silent()).bench
    told = []
    found = bench.features("test", told.append)
    assert sum(told) == len(found.read) == len(bench.encoded["test"])
    assert bench.features("test", told.append) is found
    assert sum(told) == len(found.read), "five untrained heads read the test rows once"


@pytest.mark.slow
def test_measuring_says_what_it_does(encoder, data, tmp_path):
    class Listening(Silent):
        def __init__(self):
            self.stages = []

        def stage(self, text):
            self.stages.append(text)

    options = {"data.source": str(data), "base.id": str(encoder), "data.max_length": 16, "study.methods": ["ia3"]}
    prepared = prepare(load_config(options=options), Silent())
    listening = Listening()
    estimate(prepared, listening)
    assert listening.stages == [
        f"measuring {name}" for name in ("majority", "tfidf", "foundation", "probe", "stack", "ia3")
    ]
    assert set(prepared.bench._features) == set(), "the study's own features are not touched"
