"""`feathertune train` in two processes under torchrun: the bundle of one process, and one voice."""

import json
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from e2e.cli import ENVIRONMENT, Result, feathertune, reviews, write_csv
from tiny import save_tiny_encoder

WEIGHTS = "adapter_model.safetensors"
# Without dropout, which each process would draw for its own texts; a rate at which the weights move in ten steps.
ARGUMENTS = ["--max-length", "16", "--epochs", "2", "--set", "engine.dtype=fp32", "--set", "train.learning_rate=0.005"]


def torchrun(*arguments):
    """Two processes on this machine, at a free port."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, "-m", "feathertune", *map(str, arguments)],
        env={**ENVIRONMENT, "GLOO_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """A training, but for where the bundle goes."""
    folder = tmp_path_factory.mktemp("torchrun")
    dropouts = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    encoder = save_tiny_encoder(folder / "encoder", "bert", **dropouts)
    data = write_csv(folder / "reviews.csv", reviews(100))
    return ["train", data, "--base", encoder, *ARGUMENTS]


@pytest.fixture(scope="module")
def both(command, tmp_path_factory):
    """Bundle and result of one process, and of two."""
    out = tmp_path_factory.mktemp("out")
    one = feathertune(*command, "--out", out / "one", "--json")
    assert one.code == 0, one.stderr
    two = torchrun(*command, "--out", out / "two", "--json")
    assert two.code == 0, two.stderr
    return (out / "one", one), (out / "two", two)


def test_two_processes_train_what_one_does(both):
    (alone, one), (together, two) = both
    expected, found = load_file(alone / WEIGHTS), load_file(together / WEIGHTS)
    assert found.keys() == expected.keys()
    moved = [name for name in expected if "lora_B" in name and expected[name].abs().max() > 1e-2]
    assert moved, "B begins at zero"
    for name, value in expected.items():
        # Sums in another order, over ten steps: 1e-4 is a fiftieth of what one step may move a weight.
        assert (found[name] - value).abs().max() < 1e-4, name
    # Scores are printed once, or this is no JSON.
    scores, reference = json.loads(two.stdout), json.loads(one.stdout)
    for split, metrics in reference.items():
        assert scores[split]["n"] == metrics["n"]
        assert scores[split]["log_loss"] == pytest.approx(metrics["log_loss"], abs=1e-3)
    assert two.stderr.count("tokenising") <= 1
    assert not list(together.parent.glob(".*")), "no checkpoint and no temporary folder is left"


@pytest.mark.slow
def test_what_is_refused_is_told_once_without_a_traceback_of_ours(both, command):
    (_, _), (taken, _) = both
    result = torchrun(*command, "--out", taken, "--json")
    assert result.code != 0
    assert result.stdout == ""
    assert "already holds a result. Pass another --out, or --overwrite to replace it." in result.stderr
    assert "[rank1]" not in result.stderr
    # torchrun adds its own words, a traceback among them, whatever the reason was; it names our exit code.
    assert "feathertune/cli" not in result.stderr
    assert "exitcode  : 2" in result.stderr
    assert (taken / WEIGHTS).is_file()
