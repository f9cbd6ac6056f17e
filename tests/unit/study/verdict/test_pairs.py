from __future__ import annotations

from math import comb

import numpy as np
import pytest

from feathertune.statistics.inference import holm, paired_difference
from feathertune.study.verdict.summary import compare_pairs, find_pair
from measured import accuracy

RNG = np.random.default_rng(1)
N = 500


def answers(share, seeds):
    return accuracy(RNG.random((seeds, N)) < share)


@pytest.fixture
def study():
    return {"tfidf": answers(0.7, 1), "probe": answers(0.72, 1), "lora": answers(0.85, 3), "full": answers(0.86, 3)}


def test_every_two_methods_once_and_in_order(study):
    pairs = [(pair.a, pair.b) for pair in compare_pairs(study)]
    assert pairs == [
        ("tfidf", "probe"),
        ("tfidf", "lora"),
        ("tfidf", "full"),
        ("probe", "lora"),
        ("probe", "full"),
        ("lora", "full"),
    ]


def test_a_pair_is_the_paired_difference_and_holm_is_over_all(study):
    pairs = compare_pairs(study)
    expected = [paired_difference(study[pair.a], study[pair.b]) for pair in pairs]
    for pair, difference in zip(pairs, expected, strict=True):
        assert (pair.delta, pair.low, pair.high) == pytest.approx(difference[:3], abs=1e-6)
    assert [pair.p for pair in pairs] == pytest.approx([difference.p for difference in expected], rel=0.01)
    assert [pair.p_holm for pair in pairs] == pytest.approx(holm([d.p for d in expected]), rel=0.01)
    assert pairs[1].p_holm < 0.05 < pairs[0].p_holm


def test_one_seed_each_is_mcnemar_and_its_bootstrap_is_near_the_interval():
    # Of 500 rows, 30 only by a and 12 only by b.
    a, b = np.ones((1, N), bool), np.ones((1, N), bool)
    b[0, :30], a[0, 30:42] = False, False
    (pair,) = compare_pairs({"a": accuracy(a), "b": accuracy(b)})
    assert pair.delta == 18 / N
    assert pair.p == pair.p_holm == pytest.approx(2 * sum(comb(42, k) for k in range(13)) / 2**42, rel=0.005)
    assert (pair.rows_low, pair.rows_high) == pytest.approx((pair.low, pair.high), abs=0.003)
    assert (pair.rows_low, pair.rows_high) != (pair.low, pair.high)


def test_the_interval_over_rows_knows_no_seeds(study):
    jumpy = RNG.random((3, N)) < 0.8
    jumpy[0, :150] = False
    (pair,) = compare_pairs({"jumpy": accuracy(jumpy), "full": study["full"]})
    assert pair.low < pair.rows_low < pair.delta < pair.rows_high < pair.high
    assert pair.high - pair.low > 2 * (pair.rows_high - pair.rows_low)


def test_the_same_answers_make_the_same_records(study):
    assert compare_pairs(study) == compare_pairs(study)


@pytest.mark.parametrize("names", [(), ("lora",)])
def test_less_than_two_methods_make_no_pair(study, names):
    assert compare_pairs({name: study[name] for name in names}) == []


def test_a_pair_is_found_in_either_order(study):
    pairs = compare_pairs(study)
    assert find_pair(pairs, "full", "probe") is find_pair(pairs, "probe", "full") is pairs[4]
    assert find_pair(pairs, "full", "ia3") is None
