import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from feathertune.data.tokens.batching import coarsely, cut_passes, plan_steps

lengths_lists = st.lists(st.integers(2, 300), min_size=0, max_size=400)


@given(lengths_lists, st.integers(1, 40), st.integers(16, 2000), st.integers(0, 5))
def test_every_row_once_and_within_budget(lengths, batch_size, token_budget, seed):
    lengths = np.array(lengths, dtype=np.int64)
    steps = plan_steps(lengths, batch_size=batch_size, token_budget=token_budget, seed=(seed, 1))
    rows = [row for step in steps for batch in step for row in batch]
    assert sorted(rows) == list(range(len(lengths)))
    assert len(steps) == -(-len(lengths) // batch_size)
    for step in steps:
        assert sum(len(batch) for batch in step) <= batch_size
        for batch in step:
            padded = len(batch) * lengths[batch].max()
            assert padded <= token_budget or len(batch) == 1


def test_seed_and_epoch_decide_the_order():
    lengths = np.arange(2, 202)

    def plan(*seed):
        return [row for step in plan_steps(lengths, batch_size=8, token_budget=4096, seed=seed) for row in step[0]]

    assert plan(0, 1) == plan(0, 1)
    assert plan(0, 1) != plan(0, 2)
    assert plan(0, 1) != plan(1, 1)


def test_a_pass_that_just_fits_is_not_cut():
    lengths = np.array([8, 8, 8, 8])
    assert [len(p) for p in cut_passes(np.arange(4), lengths, token_budget=32)] == [4]
    assert [len(p) for p in cut_passes(np.arange(4), lengths, token_budget=31)] == [3, 1]


def test_grouping_by_length_pads_little():
    lengths = np.random.default_rng(0).lognormal(5.3, 0.65, 5000).clip(8, 512).astype(np.int64)
    steps = plan_steps(lengths, batch_size=16, token_budget=8192, seed=(0, 1))
    padded = sum(len(p) * lengths[p].max() for step in steps for p in step)
    assert padded < 1.05 * lengths.sum()


def test_coarse_numbers_are_few_and_never_less():
    assert [coarsely(n) for n in range(1, 14)] == [1, 2, 3, 4, 6, 6, 8, 8, 12, 12, 12, 12, 16]
    for n in range(1, 3000):
        assert n <= coarsely(n) <= 1.5 * n
    assert len({coarsely(n) * coarsely(m) for n in range(1, 65) for m in range(1, 65)}) < 40
