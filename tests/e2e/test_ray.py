"""`--runner ray` on a real cluster of several nodes of this machine: the record of the local runner, whatever happens.

Tested where Ray is installed (`pip install 'feathertune[ray]'`). The commands run in processes of their own.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from e2e.cli import ENVIRONMENT, SMALL, feathertune, in_process
from feathertune.records import comparable, load_study
from packages import make_distribution

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="the extra 'ray' is not installed")

PAGE = (Path(__file__).parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")
STUDY = ["--methods", "lora", *SMALL, "--set", "method.lora.learning_rate=0.01", "--seeds", "2"]
# A run takes seconds, so that it can be met half-way.
LONG = [
    "--methods",
    "lora,full",
    "--max-length",
    "16",
    "--epochs",
    "150",
    "--set",
    "train.patience=150",
    "--seeds",
    "2",
]
LONG += ["--set", "engine.dtype=fp32", "--set", "method.lora.top_layers=1"]
NODE = {"num_cpus": 1, "memory": 2_000_000_000, "object_store_memory": 100_000_000}
# A busy machine takes its time to start a process; a node whose processes are slow is not lost.
PATIENCE = {
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_health_check_failure_threshold": "40",
}
ON_RAY = ["--runner", "ray", "--set", "runner.memory=1000000000"]


@pytest.fixture
def cluster(monkeypatch):
    """A cluster of one node, its head; others are added by the test."""
    from ray.cluster_utils import Cluster

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # Processes that Ray starts see the same code and number of threads as the commands here.
    kept = {key: ENVIRONMENT[key] for key in ("PYTHONPATH", "OMP_NUM_THREADS", "HF_HUB_OFFLINE") if key in ENVIRONMENT}
    for key, value in {"RAY_USAGE_STATS_ENABLED": "0", **PATIENCE, **kept}.items():
        monkeypatch.setenv(key, value)
    made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    yield made
    made.shutdown()


def record_of(folder: Path) -> dict:
    return comparable(json.loads((folder / "study.json").read_text(encoding="utf-8")))


def assert_same_study(found: Path, expected: Path) -> None:
    """The record, and every file that a run leaves behind, but for times and where it ran."""
    assert load_study(found).status == "complete"
    assert record_of(found) == record_of(expected)
    for run in load_study(expected).runs:
        assert (found / run.predictions).read_bytes() == (expected / run.predictions).read_bytes(), run.id
        if run.bundle is not None:
            weights = sorted(path.relative_to(expected) for path in (expected / run.bundle).glob("*.safetensors"))
            assert weights
            assert all((found / name).read_bytes() == (expected / name).read_bytes() for name in weights), run.id
    assert not [path for path in found.iterdir() if path.name.startswith(".")], "the token is gone"


def nodes_of(folder: Path) -> dict[str, str]:
    """Run to the node that it was done on."""
    files = (folder / "runs").glob("*/node.json")
    return {path.parent.name: json.loads(path.read_text(encoding="utf-8"))["ray_node"] for path in files}


def begun(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "feathertune", *map(str, arguments)]
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_until(true, process: subprocess.Popen, *, timeout_s: float = 400.0) -> None:
    give_up = time.monotonic() + timeout_s
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.05)


def finished(out: Path) -> set[str]:
    return {path.parent.name for path in (out / "runs").glob("*/run.json")}


def in_training(out: Path) -> set[str]:
    return {path.parent.name for path in (out / "runs").glob("*/metrics.jsonl")} - finished(out)


@pytest.mark.slow  # two nodes and their processes take longer than the default tests have
@pytest.mark.timeout(900)
def test_two_nodes_do_what_one_process_does(cluster, encoder, data, tmp_path, monkeypatch, capsys):
    cluster.add_node(**NODE)
    alone, together = tmp_path / "alone", tmp_path / "together"
    command = ("compare", data, "--base", encoder, *STUDY)
    assert in_process(monkeypatch, capsys, *command, "--out", alone).code == 0
    result = feathertune(*command, *ON_RAY, "--ray-address", cluster.address, "--out", together)
    assert result.code == 0, result.stderr
    assert "lora (2 seeds)" in result.stdout
    assert "2 runs on the cluster, " in result.stderr
    assert "lora-s1: " in result.stderr
    assert_same_study(together, alone)
    places = nodes_of(together)
    assert set(places) == {run.id for run in load_study(alone).runs}
    assert len(set(places.values())) == 2, "both nodes did some"
    assert "runner" not in (together / "config.yaml").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_node_killed_in_the_middle_costs_nothing_but_time(cluster, encoder, data, tmp_path, monkeypatch, capsys):
    doomed = cluster.add_node(**NODE)
    alone, out = tmp_path / "alone", tmp_path / "together"
    command = ("compare", data, "--base", encoder, *LONG)
    process = begun(*command, *ON_RAY, "--ray-address", cluster.address, "--out", out, "--json")
    # Both are in the middle of a training, so the one that is killed is.
    wait_until(lambda: len(in_training(out)) == 2, process)
    lost = {run for run, node in nodes_of(out).items() if node == doomed.node_id}
    cluster.remove_node(doomed, allow_graceful=False)
    stopped = in_training(out)
    printed, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert json.loads(printed)["status"] == "complete", "what Ray says of the lost node is not on stdout"
    assert len(stopped) == 2, "it was killed in the middle"
    assert in_process(monkeypatch, capsys, *command, "--out", alone).code == 0
    assert_same_study(out, alone)
    assert {run for run, node in nodes_of(out).items() if node == doomed.node_id} == lost, "others did the rest"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_stopped_by_ctrl_c_it_goes_on_here(cluster, encoder, data, tmp_path, monkeypatch, capsys):
    alone, out = tmp_path / "alone", tmp_path / "together"
    command = ("compare", data, "--base", encoder, *LONG)
    process = begun(*command, *ON_RAY, "--ray-address", cluster.address, "--out", out)
    wait_until(lambda: finished(out) and in_training(out), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "Stopped. Finished work is kept." in errors
    assert "Traceback" not in errors
    before = finished(out)
    time.sleep(10)
    assert finished(out) == before, "no task goes on"
    assert 0 < len(before) < len(load_study(out).planned_runs)
    went_on = in_process(monkeypatch, capsys, *command, "--out", out)
    assert went_on.code == 0, went_on.stderr
    assert went_on.stderr.count("(finished earlier)") >= len(before) - 1
    assert in_process(monkeypatch, capsys, *command, "--out", alone).code == 0
    assert_same_study(out, alone)


@pytest.fixture
def deadly(tmp_path, monkeypatch):
    """A method of another package that ends its process; before the cluster, whose nodes have to know it."""
    code = (
        "import dataclasses, os\n"
        "from feathertune.methods.families.scales import IA3\n"
        "def build(encoder, options, job):\n"
        "    if job.batches is not None:\n"
        "        os._exit(3)\n"
        "    return IA3.build(encoder, options, job)\n"
        "DEADLY = dataclasses.replace(IA3, name='deadly', build=build)\n"
    )
    place = make_distribution(
        tmp_path / "site", "deadly", {"feathertune.methods": {"deadly": "deadly:DEADLY"}}, {"deadly.py": code}
    )
    path = os.pathsep.join([str(place), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_method_that_kills_its_process_is_a_failed_row(deadly, cluster, encoder, data, tmp_path):
    out = tmp_path / "study"
    result = feathertune(
        *("compare", data, "--base", encoder, "--methods", "deadly,lora", *SMALL, "--out", out),
        *(*ON_RAY, "--ray-address", cluster.address, "--set", "runner.retries=1"),
    )
    assert result.code == 1
    assert "1 run failed: deadly-s0" in result.stderr
    runs = {run.id: run for run in load_study(out).runs}
    assert runs["lora-s0"].status == "complete"
    assert "died" in runs["deadly-s0"].error


@pytest.mark.slow
def test_the_commands_of_the_page_run(cluster, encoder, data, tmp_path):
    shared = {"/shared/reviews.csv": data, "/shared/bert-base": encoder, "/shared/study": tmp_path / "study"}
    words = {**shared, "HEAD:6379": cluster.address}
    commands = re.findall(r"^feathertune (compare .*--ray-address.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 1
    command = [str(words.get(word, word)) for word in shlex.split(commands[0])]
    result = feathertune(*command, *SMALL, *ON_RAY)
    assert result.code == 0, result.stderr
    ray = [Path(sys.executable).with_name("ray"), "start", "--help"]
    known = subprocess.run(ray, capture_output=True, text=True, check=True).stdout
    options = {
        word.partition("=")[0]
        for line in re.findall(r"^ray start .*$", PAGE, re.MULTILINE)
        for word in line.split()[2:]
    }
    assert len(options) >= 4
    assert [option for option in options if option not in known] == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_search_and_a_curve_on_a_cluster_that_is_started_for_them(encoder, data, tmp_path, monkeypatch, capsys):
    pytest.importorskip("optuna")
    alone, out = tmp_path / "alone", tmp_path / "together"
    command = ("compare", data, "--base", encoder, "--methods", "lora", *SMALL, "--seeds", "2")
    command = (*command, "--train-sizes", "40,all", "--search", "3")
    assert in_process(monkeypatch, capsys, *command, "--out", alone).code == 0
    result = feathertune(*command, *ON_RAY, "--ray-address", "local", "--out", out)
    assert result.code == 0, result.stderr
    assert [len(search.trials) for search in load_study(out).searches] == [3, 3]
    assert_same_study(out, alone)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:1", "No Ray cluster answers at 127.0.0.1:1 (--ray-address): "),
        ("ray://127.0.0.1:10001", "Expected HOST:PORT"),
        ("127.0.0.1", "Expected HOST:PORT"),
    ],
)
def test_an_address_that_is_none_is_told_before_any_data_is_read(address, says, tmp_path, monkeypatch, capsys):
    command = ("compare", tmp_path / "no-data.csv", "--runner", "ray", "--ray-address", address)
    start = time.monotonic()
    result = in_process(monkeypatch, capsys, *command, "--out", tmp_path / "out")
    assert result.code == 2
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert time.monotonic() - start < 15
    assert not (tmp_path / "out").exists()
