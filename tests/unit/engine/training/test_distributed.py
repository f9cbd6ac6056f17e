"""Processes that train together: what they sum is what one process has."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import numpy as np
import torch
from torch import nn

from feathertune.engine.training.distributed import ALONE, Group, joined

# Run by each of two processes, and by one alone; the results are compared by the test.
WORK = """
import sys
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from feathertune.data.tokens.encode import EncodedTexts, Padding
from feathertune.engine.training.distributed import joined
from feathertune.engine.training.gradient import Labelled, add_gradient
from feathertune.engine.predict import predict_logits, run_passes
from feathertune.tasks.losses import Objective
from feathertune.runtime import Runtime

CPU = Runtime(torch.device("cpu"), "fp32", "eager", "test", {})


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.tokens = nn.Embedding(30, 8)
        self.head = nn.Linear(8, 2)
        self.unused = nn.Linear(3, 3)

    def forward(self, input_ids, attention_mask=None):
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        mask = mask.unsqueeze(-1).float()
        mean = (self.tokens(input_ids) * mask).sum(1) / mask.sum(1)
        return SimpleNamespace(logits=self.head(torch.tanh(mean)))


rng = np.random.default_rng(1)
rows = [rng.integers(1, 30, length) for length in rng.integers(2, 9, 13)]
offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
texts = EncodedTexts(np.concatenate(rows).astype(np.int32), offsets, n_truncated=0, padding=Padding())
data = Labelled(texts, rng.integers(0, 2, 13).astype(np.int64), Objective(weights=(0.5, 3.0)))
passes = [np.array([3, 1, 0, 7, 8]), np.array([2, 9, 4]), np.array([11])]  # the last is one process's alone

with joined() as group:
    model = Bag()
    one = nn.Parameter(torch.zeros(2, 3))
    other = nn.Parameter(torch.zeros(4))
    if group.leads:  # the other process has no gradient of this one
        one.grad = torch.full((2, 3), 5.0)
    other.grad = torch.arange(4.0) * (group.rank + 1)
    group.sum_gradients([one, other])
    loss, halvings = add_gradient(model, list(model.parameters()), data, passes, halvings=1, runtime=CPU, group=group)
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    logits = predict_logits(model, texts, token_budget=20, runtime=CPU, group=group)
    few = texts.take(np.array([5]))  # one pass only, which is everyone's
    found = run_passes(
        lambda batch: (batch["input_ids"].float().sum(1), batch["input_ids"][:, :1]),
        few, token_budget=20, runtime=CPU, group=group,
    )
    total = group.sum(np.array([[1.0, group.rank]]))
    group.wait()
    torch.save(
        {"one": one.grad, "other": other.grad, "loss": loss, "halvings": halvings, "grads": grads, "logits": logits,
         "found": found, "total": total, "rank": group.rank, "size": group.size},
        sys.argv[1],
    )
"""

# Run by two processes: trained with dropout to the end, and stopped after five steps and gone on with from the leader's
# checkpoint.
STOPPED = """
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from feathertune.config import TrainConfig
from feathertune.data.tokens.encode import EncodedTexts, Padding
from feathertune.engine.training.checkpoint import read, write
from feathertune.engine.training.distributed import joined
from feathertune.engine.training.gradient import Labelled
from feathertune.engine.training.loop import Recipe, StepInfo, Training
from feathertune.runtime import Runtime

folder, rng = Path(sys.argv[1]).parent, np.random.default_rng(1)
texts = EncodedTexts(rng.integers(1, 30, 96).astype(np.int32), np.arange(0, 97, 6), n_truncated=0, padding=Padding())
data = Labelled(texts, rng.integers(0, 2, 16).astype(np.int64))


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.tokens, self.head, self.dropout = nn.Embedding(30, 8), nn.Linear(8, 2), nn.Dropout(0.5)

    def forward(self, input_ids, attention_mask=None):
        return SimpleNamespace(logits=self.head(self.dropout(self.tokens(input_ids).mean(1))))


with joined() as group:
    def training():
        settings = TrainConfig(epochs=2, batch_size=4, patience=5)
        runtime = Runtime(torch.device("cpu"), "fp32", "eager", "test", {})
        return Training(
            Dropping(), data, data, Recipe(settings, learning_rate=0.1, seed=3), runtime=runtime, group=group
        )

    def parameters(trained):
        return {name: p.detach() for name, p in trained.model.named_parameters()}

    undisturbed = training()
    steps = [event.loss for event in undisturbed.events() if isinstance(event, StepInfo)]
    stopped = training()
    events = stopped.events()
    while stopped.position.steps_done < 5:
        next(events)
    if group.leads:
        write(folder / "checkpoint", stopped.state(), {})
    group.wait()
    resumed = training()
    resumed.load_state(read(folder / "checkpoint"))
    again = [event.loss for event in resumed.events() if isinstance(event, StepInfo)]
    masks = torch.dropout(torch.ones(64), 0.5, True)
    torch.save(
        {"losses": steps, "again": again, "undisturbed": parameters(undisturbed), "resumed": parameters(resumed),
         "masks": masks}, sys.argv[1],
    )
"""


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def work(tmp_path, size, script=WORK):
    """Results of each process."""
    common = {**os.environ, "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    common |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": "lo"}
    paths = [tmp_path / f"{size}-{rank}.pt" for rank in range(size)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path)],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, path in enumerate(paths)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    return [torch.load(path, weights_only=False) for path in paths]


def test_two_processes_are_one(tmp_path):
    (alone,) = work(tmp_path, 1)
    both = work(tmp_path, 2)
    assert [(found["rank"], found["size"]) for found in both] == [(0, 2), (1, 2)]
    for found in both:
        # Whoever has none of a parameter adds zero.
        assert torch.equal(found["one"], torch.full((2, 3), 5.0))
        assert torch.equal(found["other"], 3 * torch.arange(4.0))
        assert found["total"].tolist() == [[2.0, 1.0]]
        assert found["halvings"] == alone["halvings"] == 1
        assert abs(found["loss"] - alone["loss"]) < 1e-6
        assert found["grads"].keys() - alone["grads"].keys() == {"unused.weight", "unused.bias"}
        for name, gradient in found["grads"].items():
            expected = alone["grads"].get(name, torch.zeros_like(gradient))
            torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-7, msg=name)
        # The same passes by the same arithmetic, and zero added: not a bit differs.
        assert np.array_equal(found["logits"], alone["logits"])
        assert np.abs(found["logits"]).min() > 0, "every text was somebody's"
        for one, other in zip(found["found"], alone["found"], strict=True):
            assert np.array_equal(one, other)


def test_a_group_with_dropout_that_is_stopped_comes_to_the_same_bits(tmp_path):
    both = work(tmp_path, 2, STOPPED)
    for found in both:
        assert len(found["losses"]) == 8
        assert found["again"] == found["losses"][5:]
        for name, value in found["undisturbed"].items():
            assert torch.equal(found["resumed"][name], value), name
            assert torch.equal(both[0]["undisturbed"][name], value), "all hold the same"
    assert not torch.equal(both[0]["masks"], both[1]["masks"]), "each drops places of its own"


def test_alone_is_the_identity(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as group:
        assert group is ALONE
    assert group.leads
    before = torch.get_rng_state()
    group.seed_torch(0, 1)
    assert torch.equal(torch.get_rng_state(), before)
    rows = np.array([4, 2, 7])
    assert np.array_equal(group.share(rows), rows)
    values = np.array([1.5, 2.5])
    assert group.sum(values) is values
    parameter = nn.Parameter(torch.ones(2))
    group.sum_gradients([parameter])
    assert parameter.grad is None
    group.wait()


def test_shares_are_all_rows_once_and_of_like_length():
    rows = np.arange(7)  # from short to long
    shares = [Group(rank, 3).share(rows) for rank in range(3)]
    assert sorted(np.concatenate(shares)) == list(rows)
    assert [list(share) for share in shares] == [[0, 3, 6], [1, 4], [2, 5]]
    assert len(Group(2, 3).share(rows[:2])) == 0
    assert [Group(rank, 3).leads for rank in range(3)] == [True, False, False]
