from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import special

from feathertune.statistics import inference as stats
from feathertune.statistics.inference import (
    bootstrap_scores,
    equivalence,
    holm,
    paired_difference,
    percentile_interval,
    seed_interval,
)
from feathertune.statistics.measures import ACCURACY, Answers
from feathertune.statistics.wilson import wilson
from measured import accuracy

Z = 1.959963984540054


def _rows(*answers: str) -> Answers:
    return accuracy([[c == "1" for c in seed] for seed in answers])


def test_wilson_by_hand():
    # (p + z2/2n -+ z sqrt(p(1-p)/n + z2/4n2)) / (1 + z2/n) for 85 of 100.
    n, p = 100, 0.85
    centre, scale = p + Z**2 / (2 * n), 1 + Z**2 / n
    half = Z * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    assert wilson(85, 100) == pytest.approx(((centre - half) / scale, (centre + half) / scale), abs=1e-12)


def test_wilson_at_the_ends():
    assert wilson(0, 10) == pytest.approx((0.0, Z**2 / (10 + Z**2)), abs=1e-12)
    assert wilson(10, 10) == pytest.approx((10 / (10 + Z**2), 1.0), abs=1e-12)
    narrow, wide = wilson(5, 10, confidence=0.5), wilson(5, 10, confidence=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_one_seed_is_wilson_without_a_spread():
    estimate = seed_interval(_rows("1110"))
    assert estimate.mean == 0.75
    assert estimate.sd is None
    assert (estimate.low, estimate.high) == wilson(3, 4)


def test_several_seeds_by_hand():
    # Row means 1, 1, 1, 0.5, 0.5, 0, 1, 1, 1, 1 (variance 1.1 / 9); accuracies 0.9 and 0.7 (variance 0.02).
    estimate = seed_interval(_rows("1111101111", "1110001111"))
    # What row and seed do not explain: 0.1 in 8 rows of two seeds, 0.4 in 2; (1 * 9) degrees of freedom.
    chance = 2 * (8 * 0.1**2 + 2 * 0.4**2) / 9
    row, seed = (1.1 / 9) / 10, 0.02 / 2 - chance / 20
    assert seed == pytest.approx(0.005556, abs=1e-6)
    # Tabled t(0.975): 2.2622 at 9 degrees, 12.7062 at 1.
    critical = (row * 2.2622 + seed * 12.7062) / (row + seed)
    n = 0.8 * 0.2 / (row + seed)
    centre, scale = 0.8 + critical**2 / (2 * n), 1 + critical**2 / n
    half = critical * math.sqrt(0.16 / n + critical**2 / (4 * n**2))
    assert estimate.mean == pytest.approx(0.8)
    assert estimate.sd == pytest.approx(math.sqrt(0.02))
    assert (estimate.low, estimate.high) == pytest.approx(((centre - half) / scale, (centre + half) / scale), abs=1e-4)


def test_more_seeds_do_not_shrink_the_part_of_the_rows():
    one = _rows("1" * 70 + "0" * 30)
    many = accuracy(np.repeat(one.values, 50, axis=0))
    single, repeated = seed_interval(one), seed_interval(many)
    assert repeated.sd == 0.0
    assert repeated.high - repeated.low == pytest.approx(single.high - single.low, rel=0.05)


def test_no_variance_still_has_an_interval():
    assert seed_interval(_rows("1111", "1111"))[2:] == wilson(4, 4)
    assert seed_interval(_rows("10", "01"))[2:] == wilson(1, 2)
    assert seed_interval(_rows("0000"))[2:] == wilson(0, 4)


def test_mcnemar_by_hand():
    # Discordant rows 8 to 2: p = 2 * (C(10,0) + C(10,1) + C(10,2)) / 2^10.
    a = _rows("1" * 8 + "0" * 2 + "1" * 10)
    b = _rows("0" * 8 + "1" * 2 + "1" * 10)
    difference = paired_difference(a, b)
    assert difference.p == pytest.approx(2 * (1 + 10 + 45) / 1024, abs=1e-12)
    assert difference.mean == pytest.approx(0.3)
    # Row differences: 8 of +1, 2 of -1, 10 of 0; variance (10 - 20 * 0.09) / 19; t(0.975, 19) = 2.093.
    half = 2.0930 * math.sqrt((10 - 1.8) / 19 / 20)
    assert (difference.low, difference.high) == pytest.approx((0.3 - half, 0.3 + half), abs=1e-4)


def test_difference_over_seeds_by_hand():
    difference = paired_difference(_rows("11101111", "11111111"), _rows("10100111", "10100000"))
    rows = np.array([0, 1, 0, 0.5, 1, 0.5, 0.5, 0.5])
    row = ((rows - 0.5) ** 2).sum() / 7 / 8
    accuracy_a, accuracy_b = 0.125**2 / 2 / 2, 0.375**2 / 2 / 2
    chance_a = 2 * (7 * 0.0625**2 + 0.4375**2) / 7 / 16
    chance_b = 2 * (5 * 0.1875**2 + 3 * 0.3125**2) / 7 / 16
    seeds = accuracy_a + accuracy_b - chance_a - chance_b
    assert seeds / (row + seeds) == pytest.approx(0.6)
    assert (accuracy_a + accuracy_b) ** 2 / (accuracy_a**2 + accuracy_b**2) == pytest.approx(1.2195, abs=1e-4)
    assert difference.mean == pytest.approx(0.5)
    # Tabled t(0.975): 2.3646 at 7 degrees; 12.706 at 1 and 4.303 at 2.
    half = difference.mean - difference.low
    assert 0.4 * 2.3646 + 0.6 * 4.303 < half / math.sqrt(row + seeds) < 0.4 * 2.3646 + 0.6 * 12.706
    assert difference.high == 1.0
    # Of the variance, what chance_a and chance_b took off counts as known by the seeds in the test.
    share = (accuracy_a + accuracy_b) / (row + seeds)
    critical = -(1 - share) * special.stdtrit(7, difference.p / 2) - share * special.stdtrit(1.2195, difference.p / 2)
    assert critical == pytest.approx(0.5 / math.sqrt(row + seeds), rel=1e-3)
    assert 0.05 < difference.p < 0.2545  # t = 2.3664 has p = 0.0499 at 7 degrees, and 0.2545 at 1


def test_seeds_that_differ_by_no_more_than_chance_add_nothing():
    # One answer of each differs between its seeds; accuracies 0.125 apart are what chance in single answers makes.
    a, b = _rows("11101111", "11111111"), _rows("10100111", "10100011")
    difference = paired_difference(a, b)
    rows = np.array([0, 1, 0, 0.5, 1, 0.5, 0, 0])
    half = 2.3646 * math.sqrt(((rows - 0.375) ** 2).sum() / 7 / 8)
    assert (difference.low, difference.high) == pytest.approx((0.375 - half, 0.375 + half), abs=1e-4)


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_method_does_not_differ_from_itself(seeds):
    correct = accuracy(np.random.default_rng(0).random((seeds, 200)) < 0.8)
    difference = paired_difference(correct, correct)
    assert (difference.mean, difference.p) == (0.0, 1.0)
    assert difference.low == -difference.high < 0


def test_seeds_that_differ_by_exactly_chance_add_no_rounding():
    one = _rows("1000", "0000", "0000")
    difference = paired_difference(one, one)
    assert (difference.low, difference.high) == (-wilson(0, 4).high, wilson(0, 4).high)


def test_constant_difference_uses_the_exact_test():
    difference = paired_difference(_rows("11111", "11111"), _rows("00000", "00000"))
    assert difference.p == pytest.approx(2 / 2**5)
    assert difference.high == difference.mean == 1.0
    assert difference.low == pytest.approx(1 - wilson(0, 5).high)


def test_one_row_is_not_divided_by_zero():
    assert seed_interval(_rows("1"))[2:] == wilson(1, 1)
    assert seed_interval(_rows("1", "0")).mean == 0.5
    assert paired_difference(_rows("1"), _rows("0")).p == 1.0


@pytest.mark.parametrize("bad", [np.ones(3, bool), np.ones((0, 3), bool), np.ones((2, 0), bool)])
def test_shapes_are_checked(bad):
    with pytest.raises(ValueError, match="Expected \\(S, N\\)"):
        ACCURACY.answers(np.ones(3, bool), bad)


def test_rows_must_be_the_same():
    one, other = _rows("111"), _rows("1111")
    for call in (
        lambda: paired_difference(one, other),
        lambda: equivalence(one, other, margin=0.01),
        lambda: bootstrap_scores([one, other]),
    ):
        with pytest.raises(ValueError, match="3 and 4 test rows"):
            call()


def test_equivalence_by_hand():
    # Differences of 100 rows: 2 of +1, 1 of -1; mean 0.01, variance (3 - 100 * 0.01^2) / 99.
    a, b = _rows("110" + "1" * 97), _rows("001" + "1" * 97)
    error = math.sqrt((3 - 0.01) / 99 / 100)
    # t = (0.04 - 0.01) / error = 1.726; tabled one-sided 0.05 at 99 degrees is 1.660, 0.025 is 1.984.
    assert 0.03 / error == pytest.approx(1.726, abs=1e-3)
    assert 0.025 < equivalence(a, b, margin=0.04) < 0.05
    assert equivalence(a, b, margin=0.04) == pytest.approx(equivalence(b, a, margin=0.04))
    assert equivalence(a, b, margin=0.01) == pytest.approx(0.5)
    assert equivalence(a, b, margin=0.005) > 0.5


def test_equivalence_of_answers_that_never_differ():
    same = _rows("1" * 50)
    assert equivalence(same, same, margin=0.01) == pytest.approx(0.99**50)
    assert equivalence(same, _rows("0" * 50), margin=0.01) == 1.0


def test_the_bootstrap_draws_the_same_rows_for_all_methods():
    rng = np.random.default_rng(3)
    one, other = accuracy(rng.random((3, 300)) < 0.8), accuracy(rng.random((1, 300)) < 0.6)
    drawn = bootstrap_scores([one, one, other], resamples=500)
    assert drawn.shape == (500, 3)
    assert (drawn[:, 0] == drawn[:, 1]).all()
    assert drawn.mean(axis=0) == pytest.approx([one.score, one.score, other.score], abs=0.01)
    assert drawn[:, 2].std() == pytest.approx(math.sqrt(other.values.var() / 300), rel=0.15)
    assert (drawn == bootstrap_scores([one, one, other], resamples=500)).all()


def test_the_bootstrap_of_many_rows_is_drawn_in_parts(monkeypatch):
    correct = accuracy(np.random.default_rng(4).random((2, 40)) < 0.7)
    monkeypatch.setattr(stats, "_COUNTS_AT_ONCE", 100)
    drawn = bootstrap_scores([correct], resamples=301)
    assert drawn.shape == (301, 1)
    assert len(np.unique(drawn)) > 5


def test_percentile_interval():
    assert percentile_interval(np.arange(1001) / 1000) == pytest.approx((0.025, 0.975))


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, made monotone.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_lowers_and_keeps_the_order(p_values):
    corrected = holm(p_values)
    assert all(raw <= new <= 1 for raw, new in zip(p_values, corrected, strict=True))
    assert [new for _, new in sorted(zip(p_values, corrected, strict=True))] == sorted(corrected)


def _answers(seeds, rows):
    return arrays(np.bool_, (seeds, rows)).map(accuracy)


_PAIRS = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 30)).flatmap(
    lambda shape: st.tuples(_answers(shape[0], shape[2]), _answers(shape[1], shape[2]))
)


def _varies(a, b):
    return np.ptp(a.rows - b.rows) > 0


@settings(max_examples=150, deadline=None)
@given(_PAIRS)
def test_intervals_hold_the_mean_and_differences_are_antisymmetric(pair):
    a, b = pair
    estimate = seed_interval(a)
    assert 0 <= estimate.low <= estimate.mean <= estimate.high <= 1
    assert estimate.low < estimate.high
    forth, back = paired_difference(a, b), paired_difference(b, a)
    assert -1 <= forth.low <= forth.mean <= forth.high <= 1
    assert 0 <= forth.p <= 1
    assert (forth.mean, forth.low, forth.high) == pytest.approx((-back.mean, -back.high, -back.low))
    assert forth.p == pytest.approx(back.p)
    assert forth.mean == pytest.approx(estimate.mean - seed_interval(b).mean)
    if (a.n_seeds > 1 or b.n_seeds > 1) and a.n_rows > 10 and _varies(a, b) and forth.p < 0.05:
        assert not forth.low < 0 < forth.high
    assert 0 <= equivalence(a, b, margin=0.1) <= 1


@settings(max_examples=50, deadline=None)
@given(_PAIRS, st.integers(0, 2**32 - 1))
def test_the_order_of_rows_and_seeds_does_not_matter(pair, seed):
    a, b = pair
    order = np.random.default_rng(seed).permutation(a.n_rows)
    again, other = accuracy(a.values[::-1, order]), accuracy(b.values[:, order])
    assert seed_interval(again) == pytest.approx(seed_interval(a))
    assert paired_difference(again, other) == pytest.approx(paired_difference(a, b))
