"""`feathertune compare`, from the command to the report."""

import dataclasses
import json
import os
import random
import shutil
import signal
import time

import pytest

from e2e.cli import ENVIRONMENT, SMALL, feathertune, in_process, reviews, write_csv
from e2e.forked import Forked
from feathertune import storage
from feathertune.methods import METHODS
from feathertune.records import comparable, load_study
from feathertune.registry import Registry
from tiny import needs_sample_encoder

FAST = ["--methods", "lora,full", *SMALL, "--set", "method.lora.learning_rate=0.01"]


@pytest.fixture(scope="module")
def study(encoder, data, tmp_path_factory):
    """A finished study in a process of its own: its folder and what was printed."""
    out = tmp_path_factory.mktemp("studies") / "study"
    return out, feathertune("compare", data, "--base", encoder, *FAST, "--seeds", "2", "--out", out)


def test_prints_the_table_and_writes_everything(study):
    out, result = study
    assert result.code == 0, result.stderr
    for word in ("majority", "tfidf", "foundation (5 seeds)", "probe", "lora (2 seeds)", "full (2 seeds)"):
        assert word in result.stdout
    assert f"Report: {out / 'report.html'}" in result.stdout
    assert "Traceback" not in result.stderr
    assert "Warning" not in result.stderr
    record = load_study(out)
    assert record.status == "complete"
    assert [run.id for run in record.runs] == record.planned_runs
    assert {run.method for run in record.runs} == {"majority", "tfidf", "foundation", "probe", "stack", "lora", "full"}
    for run in record.runs:
        assert run.test.n == record.data.n_test
        assert (out / run.predictions).is_file()
        assert (run.bundle is not None) == (run.kind == "peft")
        assert run.seconds.total > 0
    lora = next(run for run in record.runs if run.method == "lora")
    full = next(run for run in record.runs if run.method == "full")
    assert 0 < lora.trainable_parameters < lora.total_parameters
    assert full.trainable_parameters == full.total_parameters
    assert lora.adapter_bytes > 0
    assert lora.hyperparameters["learning_rate"] == 0.01
    assert record.bases[0].truncated_fraction == 0.0
    assert len(record.pairs) == len(record.summary) * (len(record.summary) - 1) // 2
    assert next(row for row in record.summary if row.method == "lora").p_equivalent > 0
    assert len(lora.train_losses) == len(lora.validation_losses) == lora.epochs
    assert all(sum(part[0] for part in run.calibration.bins) == record.data.n_test for run in record.runs)
    assert len((out / "mislabelled.csv").read_text(encoding="utf-8").splitlines()) == record.n_mislabelled + 1
    assert len((out / lora.metrics).read_text().splitlines()) == lora.steps + lora.epochs
    assert (out / "report.html").stat().st_size < 500_000


def test_the_same_command_gives_the_same_record(study, encoder, data, tmp_path):
    out, _ = study
    again = tmp_path / "again"
    assert feathertune("compare", data, "--base", encoder, *FAST, "--seeds", "2", "--out", again).code == 0
    first, second = (json.loads((folder / "study.json").read_text()) for folder in (out, again))
    assert comparable(first) == comparable(second)
    for run in first["runs"]:
        assert (out / run["predictions"]).read_bytes() == (again / run["predictions"]).read_bytes()


@pytest.mark.slow
def test_the_config_that_was_written_runs_again_as_it_is(study, tmp_path):
    out, _ = study
    again = tmp_path / "again"
    result = feathertune("compare", "--config", out / "config.yaml", "--out", again)
    assert result.code == 0, result.stderr
    records = [json.loads((folder / "study.json").read_text()) for folder in (out, again)]
    assert comparable(records[0]) == comparable(records[1])


def test_a_complete_study_is_only_drawn_again(study, encoder, data, monkeypatch, capsys):
    out, _ = study
    before = (out / "study.json").read_bytes()
    (out / "report.html").unlink()

    def written():
        return {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*")}

    runs = written()
    command = ("compare", data, "--base", encoder, *FAST, "--seeds", "2", "--out", out)
    result = in_process(monkeypatch, capsys, *command, "--json")
    assert result.code == 0
    assert written() == runs
    assert json.loads(result.stdout) == json.loads(before)
    assert (out / "study.json").read_bytes() == before
    assert (out / "report.html").exists()


def test_another_plan_is_refused_and_overwrite_replaces(study, encoder, data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "study"
    shutil.copytree(study[0], out)
    command = ("compare", data, "--base", encoder, "--methods", "lora", *SMALL, "--out", out)
    refused = in_process(monkeypatch, capsys, *command)
    assert refused.code == 2
    assert "contains a different study" in refused.stderr
    assert "--overwrite" in refused.stderr
    assert load_study(out).status == "complete"
    assert in_process(monkeypatch, capsys, *command, "--overwrite").code == 0
    assert {run.method for run in load_study(out).runs if run.kind == "peft"} == {"lora"}


def test_a_failed_run_is_a_row_and_the_rest_goes_on(encoder, data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "study"
    command = ("compare", data, "--base", encoder, *SMALL, "--methods", "lora,full", "--out", out)
    result = in_process(monkeypatch, capsys, *command, "--set", "method.lora.learning_rate=1e30")
    assert result.code == 1
    assert "1 run failed: lora-s0" in result.stderr
    record = load_study(out)
    lora = next(run for run in record.runs if run.method == "lora")
    assert lora.status == "failed"
    assert "RunFailedError: The loss is nan" in lora.error
    assert next(run for run in record.runs if run.method == "full").status == "complete"
    assert "failed: lora-s0" in result.stdout
    assert "The loss is nan" in (out / "report.html").read_text()


def breaking(name, where):
    """A method that cannot be prepared for its training, as another package may bring one."""

    def build(encoder, options, job):
        if job.batches is not None or where == "always":
            raise KeyError("a layer that is not there")
        return METHODS["ia3"].build(encoder, options, job)

    return dataclasses.replace(METHODS["ia3"], name=name, build=build)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["when it is trained", "always"])
def test_a_method_that_breaks_costs_its_own_row_only(where, encoder, data, tmp_path, monkeypatch, capsys):
    few = [*(METHODS[name] for name in ("ia3", "prefix", "full")), breaking("broken", where)]
    for module in ("study.planning.method_sizing", "methods"):  # who imports from it goes first
        monkeypatch.setattr(f"feathertune.{module}.METHODS", Registry("method", few))
    out = tmp_path / "study"
    command = ("compare", data, "--base", encoder, *SMALL, "--methods", "full,all", "--out", out)
    planned = in_process(monkeypatch, capsys, *command, "--dry-run")
    assert "left out: prefix: PEFT passes keys" in planned.stdout
    result = in_process(monkeypatch, capsys, *command)
    assert result.code == 1
    assert "1 run failed: broken-s0" in result.stderr
    assert "failed: broken-s0: KeyError" in result.stdout
    assert "left out: prefix: PEFT passes keys" in result.stdout
    record = load_study(out)
    trained = {run.id: run.status for run in record.runs if run.kind in ("peft", "full")}
    assert trained == {"full-s0": "complete", "ia3-s0": "complete", "broken-s0": "failed"}
    assert list(record.left_out) == ["prefix"]
    assert json.loads((out / "plan.json").read_text())["left_out"] == record.left_out
    assert record.descriptions["ia3"] == METHODS["ia3"].summary
    page = (out / "report.html").read_text()
    assert "prefix: left out. PEFT passes keys" in page
    assert "a layer that is not there" in page
    assert "Trains one vector per layer that scales its outputs" in page


@pytest.mark.slow
def test_a_study_at_one_size(encoder, data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "study"
    command = ("compare", data, "--base", encoder, *SMALL, "--methods", "lora,ln-tuning", "--match-parameters", "20%")
    result = in_process(monkeypatch, capsys, *command, "--out", out)
    assert result.code == 0, result.stderr
    record = load_study(out)
    lora, norms = (next(run for run in record.runs if run.method == name) for name in ("lora", "ln-tuning"))
    assert record.parameter_budget == round(0.2 * record.bases[0].n_parameters)
    head = lora.trainable_parameters - 832 * lora.hyperparameters["r"]  # 12 layers, the sum of their sides
    assert abs(lora.trainable_parameters - head - record.parameter_budget) <= 832 / 2
    assert list(record.off_budget) == ["ln-tuning"]
    assert record.off_budget["ln-tuning"] in norms.notes
    assert f"off budget: ln-tuning {record.off_budget['ln-tuning']}" in " ".join(result.stdout.split())
    again = in_process(monkeypatch, capsys, "compare", "--config", out / "config.yaml", "--out", out, "--json")
    assert json.loads(again.stdout) == json.loads((out / "study.json").read_text())


@pytest.mark.slow
def test_dry_run_writes_nothing(encoder, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    result = in_process(monkeypatch, capsys, "compare", data, "--base", encoder, *FAST, "--dry-run")
    assert result.code == 0
    cut = "no text has more than 16 tokens"
    for word in ("train neg 36, pos 36", cut, "foundation-s4", "lora-s0", "r=8"):
        assert word in result.stdout.replace("\u202f", " "), result.stdout
    assert list(tmp_path.iterdir()) == []


@needs_sample_encoder
@pytest.mark.slow
def test_without_data_it_is_the_demonstration(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    result = in_process(monkeypatch, capsys, "compare", "--dry-run", "--set", "engine.dtype=fp32")
    assert result.code == 0, result.stderr
    assert "no DATA given: running the demonstration on sample:rotten-tomatoes" in result.stderr
    assert "sample:rotten-tomatoes: 1,500 training, 300 validation, 1,500 test rows" in result.stdout
    assert "64 tokens" in result.stdout
    assert "sample:minilm: bert" in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_killed_at_any_moment_it_resumes_to_the_same_record(study, encoder, data, tmp_path):
    out = tmp_path / "study"
    command = [*map(str, ("compare", data, "--base", encoder, *FAST, "--seeds", "2", "--out", out))]
    rng, kills = random.Random(0), 0
    moments, process = [rng.uniform(0.0, 1.0) for _ in range(10)], None
    while moments and (process is None or process.returncode):  # until it ends by itself
        process = Forked(["-m", "feathertune", *command], env=ENVIRONMENT)
        deadline = time.monotonic() + 120
        while process.poll() is None and not (out / "plan.json").exists() and time.monotonic() < deadline:
            time.sleep(0.01)  # before that there is nothing to lose
        before = len(list(out.glob("runs/*/run.json")))
        while process.poll() is None and len(list(out.glob("runs/*/run.json"))) == before and kills % 2:
            time.sleep(0.002)  # each other time, as soon as another run is written
        time.sleep(moments.pop() if kills % 2 == 0 else 0.0)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
        process.close()
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 5, "it was killed in the middle"
    done = feathertune(*command)
    assert done.code == 0, done.stderr
    records = [json.loads((folder / "study.json").read_text()) for folder in (study[0], out)]
    assert comparable(records[0]) == comparable(records[1])
    for run in records[0]["runs"]:
        assert (study[0] / run["predictions"]).read_bytes() == (out / run["predictions"]).read_bytes()


@pytest.mark.slow
def test_a_method_twice_under_options_of_their_own(encoder, data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "study"
    methods = "lora,lora:top_layers=1:learning_rate=0.01,lora:target_modules=[query,value]"
    command = ("compare", data, "--base", encoder, *SMALL, "--methods", methods, "--set", "method.lora.r=2")
    result = in_process(monkeypatch, capsys, *command, "--out", out)
    assert result.code == 0, result.stderr
    record = load_study(out)
    plain, top, few = (run for run in record.runs if run.kind == "peft")
    assert top.method == "lora:top_layers=1:learning_rate=0.01"
    assert top.id == "lora-top_layers=1-learning_rate=0.01-s0"
    assert (out / "runs" / top.id / "run.json").is_file()
    assert [run.hyperparameters["r"] for run in (plain, top, few)] == [2, 2, 2]
    assert [run.hyperparameters["top_layers"] for run in (plain, top, few)] == [None, 1, None]
    assert [run.hyperparameters["learning_rate"] for run in (plain, top)] == [0.002, 0.01]
    assert few.hyperparameters["target_modules"] == ["query", "value"]
    assert top.trainable_parameters < plain.trainable_parameters
    assert record.descriptions[top.method] == METHODS["lora"].summary
    assert json.loads((out / top.bundle / "feathertune.json").read_text())["method"] == "lora"
    assert top.method in (out / "report.html").read_text(encoding="utf-8")
    again = in_process(monkeypatch, capsys, "compare", "--config", out / "config.yaml", "--out", out, "--json")
    assert json.loads(again.stdout) == json.loads((out / "study.json").read_text())


def test_interrupted_then_continued_equals_undisturbed(study, encoder, data, tmp_path):
    out = tmp_path / "study"
    command = [*map(str, ("compare", data, "--base", encoder, *FAST, "--seeds", "2", "--out", out))]
    process = Forked(["-m", "feathertune", *command], env=ENVIRONMENT)
    deadline = time.monotonic() + 120
    while not (out / "runs" / "lora-s0" / "run.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Stopped." in stderr
    assert "repeat the command" in stderr
    assert "Traceback" not in stderr
    cut_short = load_study(out)
    assert cut_short.status == "partial"
    assert 0 < len(cut_short.runs) < len(cut_short.planned_runs)
    continued = feathertune(*command)
    assert continued.code == 0, continued.stderr
    assert "lora-s0" in continued.stderr
    assert "(finished earlier)" in continued.stderr
    records = [json.loads((folder / "study.json").read_text()) for folder in (study[0], out)]
    assert comparable(records[0]) == comparable(records[1])


@pytest.mark.parametrize(
    "after", [pytest.param(0, marks=pytest.mark.slow), 5, pytest.param(12, marks=pytest.mark.slow)]
)
def test_a_full_disk_is_told_and_keeps_what_was_finished(encoder, data, tmp_path, monkeypatch, capsys, after):
    out = tmp_path / "study"
    command = ("compare", data, "--base", encoder, *FAST, "--out", out)
    calls = 0
    real = os.fsync

    def fills_up(descriptor):
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(storage.os, "fsync", fills_up)
    result = in_process(monkeypatch, capsys, *command)
    monkeypatch.undo()
    assert result.code == 1
    assert "No space left on device" in result.stderr
    assert "Traceback" not in result.stderr
    assert not [path for path in out.rglob("*.tmp")]
    assert in_process(monkeypatch, capsys, *command).code == 0
    assert load_study(out).status == "complete"


def test_several_sources_and_a_test_set_of_its_own(encoder, tmp_path, monkeypatch, capsys):
    train = write_csv(tmp_path / "train.csv", reviews(80))
    test = write_csv(tmp_path / "test.csv", reviews(95, seed=1)[80:])
    command = ("compare", train, "--test", test, "--base", encoder, "--methods", "", *SMALL, "--json")
    monkeypatch.chdir(tmp_path)
    result = in_process(monkeypatch, capsys, *command)
    assert result.code == 0, result.stderr
    record = json.loads(result.stdout)
    assert (record["data"]["n_test"], record["data"]["test_source"]) == (15, str(test))
    assert {run["method"] for run in record["runs"]} == {"majority", "tfidf", "foundation", "probe", "stack"}
    assert (tmp_path / "runs").is_dir()


def test_the_report_of_a_real_study_in_a_browser(study, browser_page):
    out, _ = study
    page = browser_page.page
    page.goto((out / "report.html").as_uri())
    assert page.locator("table").count() > 0
    assert page.locator("svg").count() > 3
    assert page.get_by_text("lora").count() > 0
    assert browser_page.problems == []
    assert [url for url in browser_page.requests if not url.startswith("file:")] == []
