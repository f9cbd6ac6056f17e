"""Rank correlations as means over rows: SciPy's correlation, its influence function, and intervals and tests of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import special
from scipy import stats as scipy_stats

from feathertune.statistics.inference import (
    bootstrap_scores,
    equivalence,
    paired_difference,
    percentile_interval,
    seed_interval,
)
from feathertune.statistics.wilson import wilson
from measured import accuracy, spearman

Z = 1.959963984540054


def drawn(seed: int, *, rows: int = 80, seeds: int = 1, noise: float = 1.0, ties: bool = False):
    """Labels and predictions; with ties, labels are some ratings and predictions rounded."""
    rng = np.random.default_rng(seed)
    labels = rng.standard_normal(rows)
    hard = rng.standard_normal(rows)
    predicted = labels + noise * (0.8 * hard + 0.6 * rng.standard_normal((seeds, rows)))
    return (np.floor(2 * labels), predicted.round(0)) if ties else (labels, predicted)


def by_scipy(labels, predicted) -> float:
    return float(scipy_stats.spearmanr(labels, predicted).statistic)


def t_quantile(values) -> float:
    """Student's t(0.975): heavy tails of N values leave fewer than N - 1 degrees of freedom (O'Neill 2014)."""
    return -special.stdtrit(degrees(values), 0.025)


def degrees(values) -> float:
    return min(len(values) - 1, 2 * len(values) / (scipy_stats.kurtosis(values, fisher=False) - 1))


@pytest.mark.parametrize("ties", [False, True])
def test_the_score_is_that_of_scipy(ties):
    labels, predicted = drawn(0, seeds=3, ties=ties)
    ranking = spearman(labels, predicted)
    assert ranking.measure.name == "spearman"
    expected = [by_scipy(labels, one) for one in predicted]
    assert ranking.seed_scores == pytest.approx(expected, abs=1e-11)
    assert ranking.score == pytest.approx(np.mean(expected), abs=1e-11)
    some = np.arange(5, 60)
    assert ranking.of_rows(some).score == pytest.approx(
        np.mean([by_scipy(labels[some], one[some]) for one in predicted]), abs=1e-11
    )


@pytest.mark.parametrize("ties", [False, True])
def test_what_a_row_adds_is_its_influence(ties):
    """Its weight is raised a little, all others lowered, and the correlation of what is then the distribution taken."""
    labels, (predicted,) = drawn(1, rows=30, ties=ties)
    ranking = spearman(labels, predicted[None])
    step = 1e-5

    def grades(numbers, weights):
        grade = np.array([weights[numbers < one].sum() + weights[numbers == one].sum() / 2 for one in numbers])
        return grade - weights @ grade

    for row in range(30):
        weights = np.full(30, (1 - step) / 30)
        weights[row] += step
        u, v = grades(labels, weights), grades(predicted, weights)
        moved = weights @ (u * v) / math.sqrt((weights @ u**2) * (weights @ v**2))
        influence = ranking.values[0, row] - ranking.score
        assert (moved - ranking.score) / step == pytest.approx(influence, abs=2e-3)


def test_the_standard_error_is_that_of_the_jackknife():
    labels, (predicted,) = drawn(2, rows=300, ties=True)
    left_out = np.array([by_scipy(np.delete(labels, row), np.delete(predicted, row)) for row in range(300)])
    jackknife = math.sqrt(299 / 300 * ((left_out - left_out.mean()) ** 2).sum())
    assert spearman(labels, predicted[None]).values.std(ddof=1) / math.sqrt(300) == pytest.approx(jackknife, rel=0.02)


def test_one_seed_goes_through_fishers_z():
    labels, predicted = drawn(3)
    ranking = spearman(labels, predicted)
    found = seed_interval(ranking)
    error = ranking.values.std(ddof=1) / math.sqrt(80)
    half = t_quantile(ranking.values[0]) * error / (1 - ranking.score**2)
    z = math.atanh(ranking.score)
    assert found.sd is None
    assert (found.low, found.mean, found.high) == pytest.approx(
        (math.tanh(z - half), ranking.score, math.tanh(z + half))
    )
    assert found.mean - found.low > found.high - found.mean, "it can fall further than rise"


def test_several_seeds_add_their_own_spread():
    labels, one = drawn(4, rows=200)
    better = labels + 0.2 * (one[0] - labels)
    alike, apart = spearman(labels, np.stack([one[0]] * 3)), spearman(labels, np.stack([one[0], one[0], better]))
    assert seed_interval(alike).sd == 0
    assert seed_interval(alike)[2:] == pytest.approx(seed_interval(spearman(labels, one))[2:], abs=1e-9)
    found = seed_interval(apart)
    assert found.sd == pytest.approx(apart.seed_scores.std(ddof=1))
    assert found.high - found.low > 2 * (seed_interval(alike).high - seed_interval(alike).low)


def test_the_unit_and_the_distances_do_not_matter():
    labels, predicted = drawn(5, seeds=2)
    other = drawn(6, seeds=2)[1]
    one, stretched = (
        (spearman(labels, predicted), spearman(labels, other)),
        (
            spearman(np.exp(labels), 1000 * predicted + 7),
            spearman(np.exp(labels), other**3),
        ),
    )
    assert seed_interval(one[0]) == seed_interval(stretched[0])
    assert paired_difference(*one) == paired_difference(*stretched)


def test_a_difference_is_paired():
    labels, predicted = drawn(7, rows=400)
    near = predicted + 0.05 * np.random.default_rng(0).standard_normal((1, 400))
    a, b = spearman(labels, predicted), spearman(labels, near)
    rows = a.values[0] - b.values[0]
    found = paired_difference(a, b)
    error = rows.std(ddof=1) / 20
    half = t_quantile(rows) * error
    assert found.mean == pytest.approx(by_scipy(labels, predicted[0]) - by_scipy(labels, near[0]), abs=1e-11)
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half))
    assert found.p == pytest.approx(2 * special.stdtr(degrees(rows), -abs(found.mean) / error))
    single = seed_interval(a)
    assert found.high - found.low < (single.high - single.low) / 5, "what is hard for both is in neither"


def test_equivalence_by_hand():
    labels, predicted = drawn(8, rows=400)
    a, b = spearman(labels, predicted), spearman(labels, predicted + 0.1 * np.random.default_rng(0).random((1, 400)))
    off = abs(a.score - b.score)
    rows = a.values[0] - b.values[0]
    error = rows.std(ddof=1) / 20
    margin = off + 2 * error
    assert equivalence(a, b, margin=margin) == pytest.approx(special.stdtr(degrees(rows), -2))
    assert equivalence(a, b, margin=margin) == pytest.approx(equivalence(b, a, margin=margin))
    assert equivalence(a, b, margin=off) == pytest.approx(0.5)
    assert equivalence(a, b, margin=off / 2) > 0.5


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_method_does_not_differ_from_itself(seeds):
    labels, predicted = drawn(9, rows=200, seeds=seeds)
    found = paired_difference(spearman(labels, predicted), spearman(labels, 2 * predicted))
    assert (found.mean, found.p) == (0.0, 1.0)
    assert found.high == -found.low >= wilson(0, 200).high


def test_where_no_row_tells_two_apart_it_may_yet_be_chance():
    labels, predicted = drawn(9, rows=200)
    one = spearman(labels, predicted)
    assert paired_difference(one, one).high == wilson(0, 200).high
    assert equivalence(one, one, margin=0.01) == pytest.approx(0.99**200)


def test_the_order_of_the_seeds_makes_no_difference_of_rounding():
    labels, predicted = drawn(9, rows=50, seeds=7)
    found = paired_difference(spearman(labels, predicted), spearman(labels, predicted[::-1]))
    assert (found.mean, found.p) == (0.0, 1.0)
    alike = spearman(labels, np.stack([predicted[0]] * 3))
    assert (alike.rows == spearman(labels, predicted[:1]).rows).all()


def test_one_number_for_all_rows_has_no_correlation_for_certain():
    labels, predicted = drawn(10, rows=200)
    constant = spearman(labels, np.full((1, 200), 2.5))
    assert seed_interval(constant) == (0.0, None, 0.0, 0.0)
    found, single = paired_difference(spearman(labels, predicted), constant), spearman(labels, predicted)
    assert found.mean == pytest.approx(single.score)
    half = t_quantile(single.values[0]) * single.values.std(ddof=1) / math.sqrt(200)
    assert found.high - found.mean == pytest.approx(half)


def test_a_perfect_order_leaves_something_open():
    labels = np.random.default_rng(0).standard_normal(50)
    found = seed_interval(spearman(labels, np.stack([labels, labels**3])))
    assert (found.mean, found.sd, found.high) == (1.0, 0.0, 1.0)
    assert found.low == pytest.approx(1 - Z**2 / (50 + Z**2))
    reverse = seed_interval(spearman(labels, -labels[None]))
    assert (reverse.low, reverse.high) == pytest.approx((-1.0, -found.low))
    worst = paired_difference(spearman(labels, labels[None]), spearman(labels, -labels[None]))
    assert worst.mean == worst.high == 2.0
    assert worst.p < 1e-12


@pytest.mark.parametrize("labels", [np.arange(3.0), np.full(100, 2.5), np.arange(1.0)])
def test_where_nothing_is_known_nothing_is_said(labels):
    rng = np.random.default_rng(0)
    a, b = (spearman(labels, rng.random((2, len(labels)))) for _ in range(2))
    assert seed_interval(a)[2:] == (-1.0, 1.0)
    assert paired_difference(a, b)[1:] == (-2.0, 2.0, 1.0)
    assert equivalence(a, a, margin=0.01) == 1.0


def test_the_bootstrap_is_that_of_the_correlation_to_first_order():
    labels, predicted = drawn(11, rows=250, seeds=2)
    other = drawn(12, rows=250)[1]
    a, b = spearman(labels, predicted), spearman(labels, labels + other)
    found = bootstrap_scores([a, b, a], resamples=1000)
    assert found.shape == (1000, 3)
    assert (found[:, 0] == found[:, 2]).all()
    rng = np.random.default_rng(1)
    anew = []
    for _ in range(1000):
        rows = rng.integers(0, 250, 250)
        anew.append(a.of_rows(rows).score - b.of_rows(rows).score)
    differences = found[:, 0] - found[:, 1]
    assert differences.std() == pytest.approx(np.std(anew), rel=0.1)
    assert percentile_interval(differences) == pytest.approx(percentile_interval(np.array(anew)), abs=0.02)
    assert differences.mean() == pytest.approx(a.score - b.score, abs=0.01)


def test_the_bootstrap_adds_up_the_same_in_any_order():
    labels, predicted = drawn(13, rows=300, seeds=3)
    whole, parts = spearman(labels, predicted).whole
    assert (whole == np.rint(whole)).all()
    assert whole / parts == pytest.approx(spearman(labels, predicted).rows, abs=1e-7)
    assert abs(whole).max() * 10_000_000 < 2**53, "sums of so many rows are exact"


@pytest.mark.parametrize("bad", [np.ones(3), np.ones((0, 3)), np.ones((2, 0)), np.ones((2, 4))])
def test_shapes_are_checked(bad):
    with pytest.raises(ValueError, match=r"Expected \(S, N\) and \(N,\)"):
        spearman(np.arange(3.0), bad)


def test_only_the_same_labels_are_paired():
    labels, predicted = drawn(14, rows=20)
    ranking = spearman(labels, predicted)
    for other in (spearman(labels + 1, predicted), accuracy(predicted > 0)):
        with pytest.raises(ValueError, match="different labels or scores cannot be paired"):
            paired_difference(ranking, other)
    with pytest.raises(ValueError, match="20 and 19 test rows"):
        paired_difference(ranking, ranking.of_rows(np.arange(19)))


_NUMBERS = st.integers(-4, 4).map(float)
_STUDIES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 25)).flatmap(
    lambda shape: st.tuples(
        arrays(np.float64, shape[2], elements=_NUMBERS),
        arrays(np.float64, (shape[0], shape[2]), elements=_NUMBERS),
        arrays(np.float64, (shape[1], shape[2]), elements=_NUMBERS),
    )
)


@settings(max_examples=100, deadline=None)
@given(_STUDIES, st.integers(0, 2**32 - 1))
def test_intervals_hold_the_score_and_differences_are_antisymmetric(study, seed):
    labels, one, other = study
    a, b = spearman(labels, one), spearman(labels, other)
    estimate = seed_interval(a)
    assert -1 <= estimate.low <= estimate.mean + 1e-12
    assert estimate.mean - 1e-12 <= estimate.high <= 1
    forth, back = paired_difference(a, b), paired_difference(b, a)
    assert -2 <= forth.low <= forth.mean <= forth.high <= 2
    assert 0 <= forth.p <= 1
    assert (forth.mean, forth.low, forth.high) == pytest.approx((-back.mean, -back.high, -back.low))
    assert forth.p == pytest.approx(back.p)
    assert 0 <= equivalence(a, b, margin=0.1) <= 1
    order = np.random.default_rng(seed).permutation(len(labels))
    again = spearman(labels[order], one[::-1, order])
    assert seed_interval(again) == pytest.approx(estimate)
    assert paired_difference(again, spearman(labels[order], other[:, order])) == pytest.approx(forth)
