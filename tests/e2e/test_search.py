"""`compare --search`: trials on validation rows, kept one by one, and the runs under what was found."""

import json

import pytest

from e2e.cli import SMALL, feathertune, in_process
from feathertune.records import comparable, load_study
from feathertune.study.running import search as searching

pytest.importorskip("optuna")

N = 4


def command(data, encoder, out):
    methods = ("--methods", "lora,ia3:learning_rate=0.02", "--set", "method.lora.target_modules=query-value")
    return ("compare", data, "--base", encoder, *SMALL, *methods, "--search", N, "--seeds", "2", "--out", out)


@pytest.fixture(scope="module")
def study(encoder, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("searched") / "study"
    return out, feathertune(*command(data, encoder, out))


def test_the_runs_have_what_the_best_trial_had(study):
    out, result = study
    assert result.code == 0, result.stderr
    assert "Warning" not in result.stderr
    record = load_study(out)
    (found,) = record.searches  # of ia3 nothing was left to search
    assert (found.method, len(found.trials)) == ("lora", N)
    plan = {run["id"]: run for run in json.loads((out / "plan.json").read_text())["runs"]}
    first = found.trials[0]
    scaled = {"learning_rate": 2e-3}  # of a narrow base model in a short training
    assert first.options == {option: ({**plan["lora-s0"]["options"], **scaled})[option] for option in found.space}
    assert first.status == "complete"
    whole = [one for one in found.trials if one.status == "complete"]
    chosen = found.trials[found.chosen]
    assert chosen.score == max(one.score for one in whole)
    assert len({json.dumps(one.options) for one in found.trials}) > 1
    for run in record.runs:
        if run.method == "lora":
            assert {option: run.hyperparameters[option] for option in found.space} == chosen.options
    # The trial with the default options and seed 0 is the run without a search: same rows, same order, same best epoch.
    assert all(1 <= one.epochs <= 2 for one in found.trials)
    assert found.trials[0].score is not None


def test_it_is_told_on_the_terminal_and_in_the_report(study):
    out, result = study
    record = load_study(out)
    assert "found by search" in result.stdout
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Hyperparameter search" in page
    assert f"the best of {N} trials on validation rows" in page
    assert "without a recorded search" not in page
    assert page.count("<summary>Trials of <bdi>lora</bdi></summary>") == 1
    assert record.searches[0].trials[1].options["learning_rate"] > 0


def test_the_chosen_trial_is_the_run_with_seed_0(study):
    """A trial is the training of a run: what it scored on validation rows, the run with its seed scores again."""
    record = load_study(study[0])
    chosen = record.searches[0].trials[record.searches[0].chosen]
    run = next(run for run in record.runs if run.id == "lora-s0")
    assert run.validation.accuracy == chosen.score
    assert run.validation.log_loss == pytest.approx(chosen.log_loss, rel=1e-6)


def test_a_search_that_was_stopped_in_a_trial_goes_on_to_the_same(study, encoder, data, tmp_path, monkeypatch, capsys):
    out, calls = tmp_path / "study", []
    real = searching.trial

    def stops(*arguments, **named):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    monkeypatch.setattr(searching, "trial", stops)
    assert in_process(monkeypatch, capsys, *command(data, encoder, out)).code == 130
    assert not list(out.glob("search/*.json"))
    monkeypatch.setattr(searching, "trial", real)
    result = in_process(monkeypatch, capsys, *command(data, encoder, out))
    assert result.code == 0, result.stderr
    records = [json.loads((folder / "study.json").read_text()) for folder in (study[0], out)]
    assert comparable(records[0]) == comparable(records[1])


@pytest.mark.slow
def test_the_cost_estimate_counts_the_trials(encoder, data, tmp_path, monkeypatch, capsys):
    result = in_process(monkeypatch, capsys, *command(data, encoder, tmp_path / "study"), "--dry-run", "--json")
    cost = json.loads(result.stdout)["cost_estimate"]
    lora, ia3 = (next(row for row in cost["rows"] if row["method"].startswith(name)) for name in ("lora", "ia3"))
    assert f"{N} search trials come before the runs" in " ".join(lora["notes"])
    assert ia3["notes"] == []
    assert cost["study_seconds"] > sum(row["n_runs"] * row["own_seconds"] for row in cost["rows"])
