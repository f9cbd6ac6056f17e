"""Fewer rows are among more, with the classes in proportion."""

import itertools

import numpy as np
import pytest

from feathertune.data.splitting.pool import nested_rows, rows_of_each, settle_sizes
from feathertune.errors import ConfigError
from feathertune.tasks.labels.classes import CLASS_LABELS
from feathertune.tasks.labels.sets import LABEL_SETS

CLASSES = np.repeat([0, 1, 2], [600, 300, 7])[np.random.default_rng(0).permutation(907)]


@pytest.mark.parametrize("seed", [0, 1])
def test_each_number_of_rows_is_a_part_of_the_larger(seed):
    drawn = [nested_rows(CLASS_LABELS, CLASSES, size, seed=seed) for size in (3, 30, 100, 500, 907)]
    for fewer, more in itertools.pairwise(drawn):
        assert set(fewer) < set(more)
    for rows, size in zip(drawn, (3, 30, 100, 500, 907), strict=True):
        assert len(rows) == size
        assert (np.diff(rows) > 0).all(), "in the order of the source, none twice"
    assert (drawn[-1] == np.arange(907)).all()


def test_classes_stay_in_proportion_and_none_is_left_out():
    assert np.bincount(CLASSES[nested_rows(CLASS_LABELS, CLASSES, 3, seed=0)]).tolist() == [1, 1, 1]
    counts = np.bincount(CLASSES[nested_rows(CLASS_LABELS, CLASSES, 300, seed=0)])
    assert counts == pytest.approx([300 * 600 / 907, 300 * 300 / 907, 300 * 7 / 907], abs=2)
    assert counts.min() >= 1


def test_another_seed_draws_other_rows_and_the_same_one_the_same():
    first, again, other = (nested_rows(CLASS_LABELS, CLASSES, 100, seed=seed) for seed in (0, 0, 1))
    assert (first == again).all()
    assert set(first) != set(other)


def test_sizes_are_numbers_from_few_to_many():
    assert settle_sizes([300, "all", 100], n_rows=907, n_classes=3) == (100, 300, 907)
    assert settle_sizes([], n_rows=907, n_classes=3) == ()


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ([100, 908], "has 908. Expected 3 (the number of classes) to 907"),
        ([2, 100], "has 2. Expected 3"),
        ([907, "all"], "907 and all, which are the same rows"),
    ],
)
def test_sizes_that_there_are_not(wanted, words):
    with pytest.raises(ConfigError, match=words.replace("(", r"\(").replace(")", r"\)")):
        settle_sizes(wanted, n_rows=907, n_classes=3)


@pytest.mark.parametrize("seed", [0, 1])
def test_shots_are_so_many_of_each_class_and_fewer_are_among_more(seed):
    drawn = [rows_of_each(CLASSES, shots, seed=seed) for shots in (1, 3, 7)]
    for fewer, more in itertools.pairwise(drawn):
        assert set(fewer) < set(more)
    for rows, shots in zip(drawn, (1, 3, 7), strict=True):
        assert np.bincount(CLASSES[rows]).tolist() == [shots] * 3
        assert (np.diff(rows) > 0).all(), "in the order of the source, none twice"
    assert (drawn[-1] == rows_of_each(CLASSES, 7, seed=seed)).all()
    assert set(drawn[-1]) != set(rows_of_each(CLASSES, 7, seed=seed + 1))


def test_shots_that_cannot_be_drawn():
    CLASS_LABELS.check_shots(CLASSES, 7, ("a", "b", "c"))
    with pytest.raises(ConfigError, match=r"--shots is 8, but the class 'c' has only 7 training rows. Pass 7 or fewer"):
        CLASS_LABELS.check_shots(CLASSES, 8, ("a", "b", "c"))
    with pytest.raises(ConfigError, match="may have several labels"):
        LABEL_SETS.check_shots(np.eye(3, dtype=np.int8), 1, ("a", "b", "c"))
