"""What a runner asks of a cluster and what it refuses, without one."""

import importlib.util
import pickle
import types

import pytest
import torch

from e2e.cli import in_process
from evidence import make_base
from feathertune.config import Config, load_config
from feathertune.data.tokens.shared_texts import TextBlock
from feathertune.errors import ConfigError, MissingExtraError
from feathertune.records.cost_estimate import CostRow
from feathertune.runtime import versions
from feathertune.study.planning.method_sizing import Fit
from feathertune.study.planning.plan import make_plan
from feathertune.study.runners import check_runner, cluster, node
from feathertune.study.runners.cluster import Needs, check_room, needs_of, room

BASE = make_base(n_parameters=1_000_000, n_layers=2, hidden_size=10)
PRICED = CostRow(method="lora", kind="peft", n_runs=1, memory_bytes=3_000_000_000)


def needs(device="cpu", predicted=None, **runner):
    config = load_config(options={f"runner.{key}": value for key, value in runner.items()})
    bench = types.SimpleNamespace(base=BASE, runtime=types.SimpleNamespace(device=torch.device(device)))
    return needs_of(config, bench, predicted)


def test_a_run_asks_for_what_is_said_else_what_was_measured_else_a_guess():
    guess = 1_500_000_000 + 16 * 1_000_000 + 68 * 4096 * 2 * 10
    assert needs() == Needs(torch.get_num_threads(), 0.0, guess)
    assert needs(predicted=PRICED).memory == 3_000_000_000
    assert needs(predicted=PRICED, memory=5).memory == 5
    # What was measured on a GPU is its own memory.
    assert needs("cuda", PRICED) == Needs(torch.get_num_threads(), 1.0, guess)
    assert needs("cuda", num_gpus=0.5, num_cpus=7) == Needs(7, 0.5, guess)
    assert needs(num_gpus=1).num_gpus == 1


def test_room_is_what_is_scarcest_on_each_node():
    nodes = [{"Resources": {"CPU": 8.0, "GPU": 2.0, "memory": 10e9}}, {"Resources": {"CPU": 3.0, "memory": 1e12}}]
    assert room(Needs(2, 0.0, 1_000_000_000), nodes) == 4 + 1
    assert room(Needs(1, 0.0, 4_000_000_000), nodes) == 2 + 3
    assert room(Needs(1, 0.5, 1_000_000_000), nodes) == 4
    assert room(Needs(9, 0.0, 1), nodes) == 0
    check_room(Needs(8, 0.0, 1), nodes)
    with pytest.raises(ConfigError, match=r"9 CPUs and 0\.0 GB of memory, .*3 CPUs, 0 GPUs, 1000\.0 GB; 8 CPUs"):
        check_room(Needs(9, 0.0, 1), nodes)


def test_the_runner_is_no_part_of_a_study():
    here, there = Config(), load_config(options={"runner.name": "ray", "runner.address": "a:1", "runner.num_cpus": 3})
    assert (here.runner.name, there.runner.name) == ("local", "ray")
    plans = [make_plan(config, Fit(()), [], content=("d", "b")) for config in (here, there)]
    assert plans[0].fingerprint == plans[1].fingerprint
    assert plans[1].config.runner.num_cpus == 3
    assert here.to_yaml() == there.to_yaml()
    assert plans[0].model_dump_json() == plans[1].model_dump_json()


def test_what_cannot_be_is_told_before_data_is_read(tmp_path, monkeypatch, capsys):
    with pytest.raises(ConfigError, match=r"Setting 'runner.name' is 'slurm': .*'local' or 'ray'"):
        load_config(options={"runner.name": "slurm"})
    with pytest.raises(ConfigError, match=r"the runner is local\. Pass --runner ray"):
        check_runner(load_config(options={"runner.address": "a:1"}).runner)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'feathertune\[ray\]'"):
        check_runner(load_config(options={"runner.name": "ray"}).runner)
    result = in_process(monkeypatch, capsys, "compare", tmp_path / "no.csv", "--runner", "ray")
    assert (result.code, result.stdout) == (2, "")
    assert "The runner ray needs the extra 'ray'" in result.stderr


def test_the_address_of_the_environment_is_checked_and_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"answers at 127\.0\.0\.1:1 \(RAY_ADDRESS\)"):
        cluster.check_cluster(None)
    cluster.check_cluster("auto")
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    cluster.check_cluster(None)


def test_a_node_is_refused_that_sees_another_folder_or_has_other_packages(tmp_path):
    (tmp_path / ".token.tmp").write_text("says")

    def site(says="says", folder=tmp_path, **others):
        return node.Site(folder, (folder / ".token.tmp", says), tmp_path, {**versions(), **others}, threads=1)

    assert node.inspect_node(site())
    for wrong in (site(says="another"), site(folder=tmp_path / "missing")):
        with pytest.raises(ConfigError, match=r"Node .+: the study folder .* results could not be collected"):
            node.inspect_node(wrong)
    with pytest.raises(ConfigError, match=r"Node .+: torch is .+ here, but 0\.0 where the study started"):
        node.inspect_node(site(torch="0.0"))
    with pytest.raises(ConfigError, match="xgboost is not installed here, but 9 where"):
        node.inspect_node(site(xgboost="9"))


def test_texts_in_one_block_are_the_texts():
    texts = ["one", "", "zwei, ünïcode 🙂", "three"]
    block = pickle.loads(pickle.dumps(TextBlock(texts), protocol=5))
    assert list(block) == texts
    assert len(block) == 4
    assert (block[2], block[-1], block[1:3]) == (texts[2], texts[-1], texts[1:3])
    with pytest.raises(IndexError):
        block[4]
    # What a large block holds stays where it is: the pickle itself is small.
    buffers = []
    small = pickle.dumps(TextBlock(["word " * 1_000] * 1_000), protocol=5, buffer_callback=buffers.append)
    assert len(small) < 10_000
    assert sum(len(buffer.raw()) for buffer in buffers) > 5_000_000
