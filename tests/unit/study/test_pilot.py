"""The steps and passes that are counted are those that the engine makes."""

from types import SimpleNamespace

import numpy as np
import pytest

from feathertune.config import TrainConfig
from feathertune.data.tokens.batching import cut_passes, plan_steps
from feathertune.data.tokens.encode import EncodedTexts, Padding
from feathertune.study.cost import reading_passes, spread, training_steps, work


@pytest.fixture
def bench():
    """The part of a workbench that is counted: 203 texts of 3 to 60 tokens, steps of 16 rows."""
    lengths = np.random.default_rng(0).integers(3, 61, 203)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    texts = EncodedTexts(np.arange(offsets[-1], dtype=np.int32), offsets, 0, padding=Padding())
    return SimpleNamespace(
        encoded={"train": texts, "test": texts},
        base=SimpleNamespace(hidden_size=100),
        pretrained=SimpleNamespace(token_budget=300),
    )


def test_steps_are_those_of_the_training_loop(bench):
    real = plan_steps(bench.encoded["train"].lengths, batch_size=16, token_budget=300, seed=(3, 1))
    steps = training_steps(bench, TrainConfig(batch_size=16, token_budget=300), 3, 1)
    assert [[rows.tolist() for rows in step] for step in steps] == [[rows.tolist() for rows in step] for step in real]
    assert any(len(step) > 1 for step in steps), "some steps take several passes"


def test_passes_are_those_of_prediction(bench):
    lengths = bench.encoded["test"].lengths
    real = cut_passes(np.argsort(lengths, kind="stable"), lengths, token_budget=300)
    assert [rows.tolist() for rows in reading_passes(bench, "test")] == [rows.tolist() for rows in real]


def test_work_counts_padding_and_attention(bench):
    n, width = bench.encoded["train"].shape(np.array([0, 1]))
    assert n == 2
    once = work(bench, "train", [np.array([0, 1])])
    assert once == pytest.approx(2 * width * (1 + width / 600))
    assert work(bench, "train", [np.array([0, 1])] * 2) == pytest.approx(2 * once)


@pytest.mark.parametrize(("n", "expected"), [(1, [2]), (2, [2, 3]), (3, [1, 2, 3]), (9, [0, 1, 2, 3, 4])])
def test_spread_goes_to_the_largest(n, expected):
    assert spread([1.0, 3.0, 9.0, 2.0, 4.0], n) == expected
