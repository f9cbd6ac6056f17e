"""`--track`: the real packages write what happened to disk, and a study is the same with and without them.

Each is tested where it is installed (`pip install 'feathertune[tensorboard,mlflow,wandb,trackio]'`). They run in
processes of their own, with an empty home; what they wrote is read back here.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from e2e import cli
from e2e.cli import SMALL, feathertune, in_process
from feathertune import track
from feathertune.records import comparable, load_study
from feathertune.registry import Registry
from feathertune.track.tracker import Tracker

STUDY = ["--methods", "lora,full", *SMALL]
# What each writes to elsewhere if it is told so.
VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_MODE", "WANDB_DIR", "WANDB_PROJECT", "TRACKIO_DIR")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An empty home, and none of the trackers' variables."""
    home = tmp_path_factory.mktemp("home")
    kept = {key: value for key, value in cli.ENVIRONMENT.items() if key not in VARIABLES}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "ENVIRONMENT", {**kept, "HOME": str(home)})
        yield home


@pytest.fixture(scope="module")
def untracked(encoder, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("studies") / "untracked"
    result = feathertune("compare", data, "--base", encoder, *STUDY, "--out", out)
    assert result.code == 0, result.stderr
    return out


def read_tensorboard(folder: Path) -> dict[str, list[dict[str, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for run in folder.iterdir():
        events = EventAccumulator(str(run)).Reload()
        names = events.Tags()["scalars"]
        found[run.name] = [{"step": e.step, name: e.value} for name in names for e in events.Scalars(name)]
        text = events.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
        assert "data.max_length: 16" in text
    return found


def read_mlflow(folder: Path) -> dict[str, list[dict[str, float]]]:
    with sqlite3.connect(folder / "mlflow.db") as database:
        assert database.execute("select name from experiments where name = 'study'").fetchall() == [("study",)]
        runs = database.execute("select run_uuid, name, status from runs").fetchall()
        assert {status for _, _, status in runs} == {"FINISHED"}
        read = {}
        for uuid, name, _ in runs:
            rows = database.execute("select step, key, value from metrics where run_uuid = ? order by step", (uuid,))
            read[name] = [{"step": step, key: value} for step, key, value in rows]
            params = dict(database.execute("select key, value from params where run_uuid = ?", (uuid,)).fetchall())
            assert params["data.max_length"] == "16"
    return read


def read_wandb(folder: Path) -> dict[str, list[dict[str, float]]]:
    read = {}
    for path in folder.glob("offline-run-*/run-*.wandb"):
        script = Path(__file__).with_name("read_wandb.py")
        printed = subprocess.run([sys.executable, script, path], capture_output=True, text=True, check=True).stdout
        run = json.loads(printed)
        assert (run["group"], run["exit_code"], run["config"]["data.max_length"]) == ("study", 0, 16)
        read[run["name"]] = [{"step": row["_step"], **row} for row in run["history"]]
    return read


def read_trackio(folder: Path) -> dict[str, list[dict[str, float]]]:
    read: dict[str, list[dict[str, float]]] = {}
    with sqlite3.connect(folder / "study.db") as database:
        for name, step, metrics in database.execute("select run_name, step, metrics from metrics order by step, id"):
            read.setdefault(name, []).append({"step": step, **json.loads(metrics)})
        for (config,) in database.execute("select config from configs"):
            assert json.loads(config)["data.max_length"] == 16
    return read


READERS = {"tensorboard": read_tensorboard, "mlflow": read_mlflow, "wandb": read_wandb, "trackio": read_trackio}


@pytest.mark.parametrize("name", READERS)
def test_a_study_is_written_and_its_record_is_the_same(name, untracked, environment, encoder, data, tmp_path):
    for package in track.TRACKERS[name].packages:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    out = tmp_path / "study"
    result = feathertune("compare", data, "--base", encoder, *STUDY, "--out", out, "--track", name, "--json")
    assert result.code == 0, result.stderr
    first, second = (json.loads((folder / "study.json").read_text()) for folder in (untracked, out))
    assert comparable(first) == comparable(second)
    assert json.loads(result.stdout) == second, "nothing but the record is on stdout"
    assert result.stderr == ""
    for run in first["runs"]:
        assert (untracked / run["predictions"]).read_bytes() == (out / run["predictions"]).read_bytes()
    assert {path.name for path in out.iterdir()} - {path.name for path in untracked.iterdir()} == {"track"}
    assert [path for path in environment.rglob("*") if path.is_file()] == [], "the home is left alone"

    read = READERS[name](out / "track" / name)
    record = load_study(out)
    assert set(read) == {run.id for run in record.runs}
    for run in record.runs:
        rows = read[run.id]
        last = {key: value for row in rows for key, value in row.items()}
        assert last["test/accuracy"] == pytest.approx(run.test.accuracy, rel=1e-6)
        assert last["cost/trainable_parameters"] == run.trainable_parameters
        lines = [json.loads(line) for line in (out / run.metrics).read_text().splitlines()] if run.metrics else []
        losses = {line["step"]: line["loss"] for line in lines if line["event"] == "step"}
        tracked = {row["step"]: row["train/loss"] for row in rows if "train/loss" in row}
        assert tracked == pytest.approx(losses, rel=1e-6)
        scores = [line["validation_score"] for line in lines if line["event"] == "epoch"]
        tracked = [row["validation/score"] for row in rows if "validation/score" in row]
        assert tracked == pytest.approx(scores, rel=1e-6)
        assert last["validation_final/accuracy"] == pytest.approx(run.validation.accuracy, rel=1e-6)


@pytest.mark.slow
def test_a_training_is_written_beside_its_bundle(environment, encoder, data, tmp_path):
    pytest.importorskip("tensorboard")
    out = tmp_path / "bundle"
    result = feathertune("train", data, "--base", encoder, *SMALL, "--out", out, "--track", "tensorboard")
    assert result.code == 0, result.stderr
    assert f"--track tensorboard writes to {tmp_path / 'bundle.track' / 'tensorboard'}" in result.stderr
    (rows,) = read_tensorboard(tmp_path / "bundle.track" / "tensorboard").values()
    assert sum("train/loss" in row for row in rows) == 10
    assert sum("test/accuracy" in row for row in rows) == 1
    assert feathertune("predict", out, "--text", "great film").code == 0, "the bundle is whole"


def breaking(folder, study, run, settings):
    raise RuntimeError("no place on this earth")


def test_a_study_outlives_its_tracker(encoder, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(track, "TRACKERS", Registry("tracker", [Tracker("breaking", (), breaking)]))
    out = tmp_path / "study"
    command = ("compare", data, "--base", encoder, "--methods", "", *SMALL, "--out", out, "--track", "breaking")
    result = in_process(monkeypatch, capsys, *command)
    assert result.code == 0, result.stderr
    said = "--track breaking failed and was turned off: RuntimeError: no place on this earth"
    assert result.stderr.count(said) == 1
    assert load_study(out).status == "complete"


@pytest.mark.parametrize("command", ["compare", "train"])
def test_an_unknown_tracker_is_told_before_anything_is_read(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    result = in_process(monkeypatch, capsys, command, "nowhere.csv", "--out", "out", "--track", "tensorbord,mlflow")
    assert result.code == 2
    assert "Unknown tracker 'tensorbord'. Did you mean 'tensorboard'?" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_told_before_anything_is_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    result = in_process(monkeypatch, capsys, "compare", "nowhere.csv", "--track", "wandb")
    assert result.code == 2
    assert "--track wandb needs the extra 'wandb'" in result.stderr
    assert "pip install 'feathertune[wandb]'" in result.stderr
