"""Balanced accuracy as a mean over strata: estimate, intervals and tests; with one stratum, all of it is accuracy's."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from feathertune.statistics import inference as stats
from feathertune.statistics.inference import (
    bootstrap_scores,
    equivalence,
    paired_difference,
    percentile_interval,
    seed_interval,
)
from feathertune.statistics.measures import BALANCED_ACCURACY
from feathertune.statistics.uncertainty import uncertainty
from feathertune.statistics.wilson import wilson
from measured import accuracy, balanced

Z = 1.959963984540054


def _rows(*answers: str) -> np.ndarray:
    return np.array([[c == "1" for c in seed] for seed in answers])


def _drawn(seed: int, *, seeds: int = 1, rows: int = 120, share: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    classes = (rng.random(rows) < share).astype(int)
    hard = rng.random(rows)
    return (hard + 0.2 * rng.random((seeds, rows))) < np.where(classes, 0.7, 1.05), classes


@pytest.mark.parametrize("seed", range(4))
def test_the_score_is_that_of_scikit_learn(seed):
    correct, classes = _drawn(seed, seeds=3)
    answers = balanced(correct, classes)
    predicted = np.where(correct, classes, 1 - classes)
    assert answers.seed_scores == pytest.approx([balanced_accuracy_score(classes, of_seed) for of_seed in predicted])
    assert answers.score == pytest.approx(answers.seed_scores.mean())


def test_one_class_is_accuracy_to_the_bit():
    (a, _), (b, _) = _drawn(0, seeds=3), _drawn(1, seeds=2)
    one = np.zeros(a.shape[1], int)
    assert seed_interval(balanced(a, one)) == seed_interval(accuracy(a))
    assert seed_interval(balanced(a[:1], one)) == seed_interval(accuracy(a[:1]))
    assert paired_difference(balanced(a, one), balanced(b, one)) == paired_difference(accuracy(a), accuracy(b))
    assert equivalence(balanced(a, one), balanced(b, one), margin=0.05) == equivalence(
        accuracy(a), accuracy(b), margin=0.05
    )
    drawn = bootstrap_scores([balanced(a, one), balanced(b, one)], resamples=50)
    assert (drawn == bootstrap_scores([accuracy(a), accuracy(b)], resamples=50)).all()


def test_a_difference_by_hand():
    # Of 4 rows of one class the differences are 1, 1, 0, 0, of 8 of the other -1 and seven times 0.
    a, b = _rows("1100" + "01111111"), _rows("0000" + "11111111")
    classes = np.array([0] * 4 + [1] * 8)
    found = paired_difference(balanced(a, classes), balanced(b, classes))
    parts = (1 / 3 / 4) / 4, (7 / 8 / 7 / 8) / 4  # variances 1/3 and 1/8, over n, by the squared weight
    error, df = math.sqrt(sum(parts)), sum(parts) ** 2 / (parts[0] ** 2 / 3 + parts[1] ** 2 / 7)
    assert found.mean == pytest.approx((2 / 4 - 1 / 8) / 2)
    assert df == pytest.approx(4.17, abs=0.01)
    # Tabled t(0.975): 2.776 at 4 degrees, 2.571 at 5.
    assert 2.571 < (found.mean - found.low) / error < 2.776
    # Turned around, the three rows make +-1/8 +-1/8 +-1/16: 4 of 8 ways are as far off as 3/16.
    assert found.p == pytest.approx(0.5)


def test_the_variance_is_the_mean_square_of_the_influence():
    correct, classes = _drawn(3, rows=4000)
    answers = balanced(correct, classes)
    sizes = np.bincount(classes)
    recalls = np.array([correct[0, classes == c].mean() for c in (0, 1)])
    influence = len(classes) / (2 * sizes[classes]) * (correct[0] - recalls[classes])
    assert influence.mean() == pytest.approx(0, abs=1e-12)
    known = uncertainty(correct[0].astype(float), [answers])
    assert known.variance == pytest.approx(influence.var() / len(classes), rel=1 / sizes.min() + 1e-9)
    assert sizes.min() < known.rows_df < 2 * sizes.min()


def test_what_seeds_add_is_free_of_chance_in_each_class():
    correct, classes = _drawn(5, seeds=4)
    answers = balanced(correct, classes)
    chance = 0.0
    for rows in (classes == 0, classes == 1):
        part = correct[:, rows].astype(float)
        left = part - part.mean(axis=0) - part.mean(axis=1, keepdims=True) + part.mean()
        chance += (left**2).sum() / (3 * (part.shape[1] - 1)) / part.shape[1] / 4
    known = uncertainty(correct.mean(axis=0), [answers])
    of_scores = answers.seed_scores.var(ddof=1)
    assert known.seeds == pytest.approx(of_scores / 4)
    assert known.own_of_seeds == pytest.approx(max(0.0, of_scores - chance) / 4)


def test_a_class_that_was_all_found_is_not_certain():
    classes = np.array([0] * 400 + [1] * 12)
    correct = _rows("1" * 380 + "0" * 20 + "1" * 12)
    found = seed_interval(balanced(correct, classes))
    # Half of what 12 of 12 leave open, and some for the other class and for how badly that is known.
    left = (1 - wilson(12, 12).low) / 2
    assert left < found.mean - found.low < 1.5 * left


def test_recalls_that_are_all_alike_are_put_together():
    classes = np.array([0] * 30 + [1] * 10)
    always_0 = seed_interval(balanced(_rows("1" * 30 + "0" * 10), classes))
    assert always_0.mean == 0.5
    assert always_0.low == pytest.approx(0.5 - (1 - wilson(30, 30).low) / 2)
    assert always_0.high == pytest.approx(0.5 + wilson(0, 10).high / 2)
    perfect = seed_interval(balanced(np.ones((2, 40), bool), classes))
    both = math.hypot(1 - wilson(30, 30).low, 1 - wilson(10, 10).low) / 2
    assert (perfect.low, perfect.high) == (pytest.approx(1 - both), 1.0)


def test_no_difference_in_any_row_leaves_open_what_few_rows_do():
    classes = np.array([0] * 30 + [1] * 10)
    same = balanced(np.ones((1, 40), bool), classes)
    found = paired_difference(same, same)
    assert (found.mean, found.p) == (0.0, 1.0)
    assert found.high == pytest.approx(math.hypot(wilson(0, 30).high, wilson(0, 10).high) / 2)
    # Ten rows of two classes know as much as twenty of one at most.
    assert equivalence(same, same, margin=0.01) == pytest.approx(0.99**20)


def test_classes_with_one_row_vary_together():
    classes = np.array([0] * 10 + [1, 2, 3, 4])
    correct = _rows("1" * 8 + "00" + "1101")
    known = uncertainty(correct[0].astype(float), [balanced(correct, classes)])
    assert known.variance == pytest.approx((1 / 5) ** 2 * (10 / 9 * 0.16) / 10 + (4 / 5) ** 2 * 0.25 / 4)


def _all_turns(rows, classes):
    """The share of all ways to turn rows around that make at least as large a difference."""
    units = 1 / np.bincount(classes)[classes]
    signs = np.array(list(itertools.product((-1, 1), repeat=int((rows != 0).sum()))))
    sums = signs @ units[rows != 0]
    return (np.abs(sums) >= abs(units @ rows) - 1e-12).mean()


@pytest.mark.parametrize("seed", range(6))
def test_the_exact_test_counts_all_turns(seed):
    rng = np.random.default_rng(seed)
    classes = rng.choice(3, 12, p=[0.6, 0.2, 0.2])
    classes[:3] = (0, 1, 2)
    a, b = rng.random((2, 1, 12)) < 0.6
    found = paired_difference(balanced(a, classes), balanced(b, classes))
    assert found.p == pytest.approx(_all_turns((a * 1.0 - b)[0], classes))


def test_classes_of_one_size_make_mcnemars_test():
    a, b = _rows("1" * 8 + "0" * 2 + "1" * 10), _rows("0" * 8 + "1" * 2 + "1" * 10)
    halves = np.array([0, 1] * 10)
    assert (
        paired_difference(balanced(a, halves), balanced(b, halves)).p == paired_difference(accuracy(a), accuracy(b)).p
    )


def test_where_sums_are_too_many_the_normal_distribution_is_near(monkeypatch):
    correct, classes = _drawn(7, rows=600, share=0.3)
    other, _ = _drawn(8, rows=600, share=0.3)
    a, b = balanced(correct, classes), balanced(other, classes)
    exact = paired_difference(a, b).p
    monkeypatch.setattr(stats, "_MOST_SUMS", 10)
    assert paired_difference(a, b).p == pytest.approx(exact, abs=0.02)


def test_each_class_is_drawn_from_by_itself():
    classes = np.array([0] * 200 + [1])
    correct = _rows("1" * 150 + "0" * 50 + "1")
    drawn = bootstrap_scores([balanced(correct, classes)], resamples=400)[:, 0]
    assert drawn.min() > 0.75, "the class with one row is in every drawn set"
    assert drawn.mean() == pytest.approx(0.875, abs=0.005)
    correct, classes = _drawn(9, rows=500, share=0.2)
    answers = balanced(correct, classes)
    low, high = percentile_interval(bootstrap_scores([answers])[:, 0])
    error = uncertainty(correct[0].astype(float), [answers]).standard_error
    assert (high - low) / (2 * Z) == pytest.approx(error, rel=0.1)


def test_a_part_of_the_rows_is_of_the_classes_in_it():
    correct, classes = _rows("110010"), np.array([0, 0, 0, 0, 1, 2])
    part = balanced(correct, classes).of_rows(np.array([0, 1, 2, 4]))
    assert part.score == pytest.approx((2 / 3 + 1) / 2)
    assert accuracy(correct).of_rows(np.array([0, 2])).score == 0.5


def test_answers_that_are_scored_otherwise_are_not_paired():
    correct, classes = _drawn(0)
    for other in (accuracy(correct), balanced(correct, 1 - classes)):
        with pytest.raises(ValueError, match="different labels or scores cannot be paired"):
            paired_difference(balanced(correct, classes), other)
    with pytest.raises(ValueError, match=r"shape \(1, 120\) do not fit labels of shape \(119,\)"):
        BALANCED_ACCURACY.answers(classes[1:], correct)
