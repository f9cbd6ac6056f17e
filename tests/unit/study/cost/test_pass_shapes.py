"""The shapes of passes are those that the batches will have, and costs are found again from times that follow them."""

import dataclasses

import numpy as np
import pytest
import torch

from feathertune.data.tokens.batching import cut_passes, plan_steps
from feathertune.data.tokens.encode import EncodedTexts
from feathertune.engine.kernels.attention import MASKED
from feathertune.engine.kernels.tokens import Tokens
from feathertune.study.cost.pass_shapes import (
    features_of,
    reading_passes,
    shapes_of,
    spread,
    training_steps,
    work,
)
from feathertune.study.cost.training_cost import fit_costs

CPU = torch.device("cpu")


def texts(lengths):
    lengths = np.asarray(lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return EncodedTexts(np.arange(offsets[-1], dtype=np.int32), offsets, 0, pad_id=0)


@pytest.fixture
def lengths():
    return np.random.default_rng(0).integers(3, 61, 203)


def test_training_steps_have_the_shapes_of_the_real_batches(lengths):
    settings = {"batch_size": 16, "token_budget": 300, "seed": (3, 1)}
    real = [
        [tuple(texts(lengths).collate(rows, CPU)["input_ids"].shape) for rows in step]
        for step in plan_steps(lengths, **settings)
    ]
    steps = training_steps(texts(lengths), **settings)
    assert [[one.shape for one in step] for step in steps] == real
    assert any(len(step) > 1 for step in steps), "some steps take several passes"
    assert sorted(row for step in steps for one in step for row in one.rows) == list(range(len(lengths)))


def test_reading_passes_have_the_shapes_of_the_real_batches(lengths):
    order = np.argsort(lengths, kind="stable")
    real = [
        tuple(texts(lengths).collate(rows, CPU)["input_ids"].shape)
        for rows in cut_passes(order, lengths, token_budget=300)
    ]
    assert [one.shape for one in reading_passes(texts(lengths), token_budget=300)] == real


def test_work_counts_padding_and_attention():
    (one,) = reading_passes(texts([8, 5]), token_budget=100)
    assert one.n_rows == 16
    assert work([one], 100) == pytest.approx(16 * (1 + 8 / 600))
    assert work([one, one], 100) == 2 * work([one], 100)


def test_rows_of_products_are_those_that_blocks_run_over():
    (one,) = reading_passes(texts([40, 3, 5, 2]), token_budget=1000)
    mask = torch.zeros(4, 1, 1, 40).masked_fill(
        torch.arange(40) >= torch.tensor([2, 3, 5, 40])[:, None, None, None], MASKED
    )
    tokens = Tokens.of(mask)
    assert tokens is not None
    assert one.n_rows == len(tokens.places) < 160
    assert one.n_pairs == 4 * 40 * 40
    assert shapes_of([[one, one]]) == {one.n_rows}


@pytest.mark.parametrize(("n", "expected"), [(1, [2]), (2, [2, 3]), (3, [1, 2, 3]), (9, [0, 1, 2, 3, 4])])
def test_spread_goes_to_the_largest(n, expected):
    assert spread([1.0, 3.0, 9.0, 2.0, 4.0], n) == expected


def test_costs_are_found_again_from_seconds_that_follow_them(lengths):
    steps = training_steps(texts(lengths), batch_size=16, token_budget=300, seed=(0, 1))
    true = np.array([0.02, 0.003, 1e-4, 2e-6])
    warm = features_of(steps) @ true
    seen, cold = set(), []
    for number, (step, seconds) in enumerate(zip(steps, warm, strict=True)):
        new = shapes_of([step]) - seen
        seen |= new
        cold.append(seconds + 0.05 * len(new) + (0.7 if number == 0 else 0.0))
    costs = fit_costs(steps, np.array(cold), steps, warm)
    assert features_of(steps) @ costs.weights == pytest.approx(warm, rel=1e-6)
    assert (costs.new_shape, costs.start) == pytest.approx((0.05, 0.7), rel=1e-3)
    whole = costs.seconds(steps, epochs=3, n_shapes=len(seen))
    assert whole == pytest.approx(3 * warm.sum() + 0.05 * len(seen) + 0.7, rel=1e-3)


def test_costs_are_never_negative_whatever_the_noise(lengths):
    steps = training_steps(texts(lengths), batch_size=16, token_budget=300, seed=(0, 1))[:3]
    costs = fit_costs(steps, np.array([0.1, 0.1, 0.1]), steps, np.array([0.3, 0.2, 0.4]))
    assert (costs.weights >= 0).all()
    assert (costs.new_shape, costs.start) == (0.0, 0.0), "the first time was no slower"


def test_passes_of_windows_have_the_shapes_of_the_real_batches():
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 5, 60)
    lengths = [n for count in counts for n in ([16] * count if count > 1 else [int(rng.choice([8, 16]))])]
    windows = dataclasses.replace(texts(lengths), firsts=np.concatenate([[0], np.cumsum(counts)]))
    steps = training_steps(windows, batch_size=8, token_budget=100, seed=(0, 1))
    for step in steps:
        for one in step:
            assert one.shape == tuple(windows.collate(one.rows, CPU)["input_ids"].shape)
            assert one.shape[0] * one.shape[1] <= 100
            assert one.shape[0] == counts[one.rows].sum()
    assert sorted(row for step in steps for one in step for row in one.rows) == list(range(60))
