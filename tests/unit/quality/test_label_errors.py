"""Labels that may be wrong: flipped ones come first."""

import numpy as np
import pytest

from feathertune.data.sources.collector import ReadOptions
from feathertune.data.sources.samples import load_sample
from feathertune.quality.label_errors import FOLDS, features, find_label_errors, margins_of
from feathertune.quality.words import words_of

CHINESE = {0: "今天天气很好我们去公园玩", 1: "这个手机电池坏了需要退货"}


@pytest.fixture(scope="module")
def flipped():
    """2,500 real reviews; 2 % of the labels are flipped."""
    dataset = load_sample("imdb", ReadOptions())
    rows = np.random.default_rng(0).permutation(len(dataset.texts))[:2500]
    labels = np.array([dataset.labels[row] == "positive" for row in rows], np.int64)
    planted = np.sort(np.random.default_rng(1).permutation(len(rows))[:50])
    labels[planted] ^= 1
    return words_of([dataset.texts[row] for row in rows]), labels, planted


def test_more_than_half_of_the_flipped_labels_are_in_the_first_4_percent(flipped):
    words, labels, planted = flipped
    errors = find_label_errors(words, labels)
    assert len(errors.rows) <= 0.04 * len(labels)
    assert len(np.intersect1d(errors.rows, planted)) > len(planted) / 2
    assert (np.diff(errors.margins) >= 0).all(), "the most suspicious first"
    assert (errors.suggested == 1 - labels[errors.rows]).all()
    assert errors.n_judged == len(labels)
    assert 0.8 < errors.accuracy < 0.95
    again = find_label_errors(words, labels)
    assert np.array_equal(again.rows, errors.rows)


def test_scripts_without_spaces():
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 2
    texts = ["".join(rng.permutation(list(CHINESE[label]))[:8]) for label in labels.tolist()]
    planted = [10, 33, 120, 255]
    labels[planted] ^= 1
    errors = find_label_errors(words_of(texts), labels)
    assert {*planted} <= {*errors.rows[:4].tolist()}


def test_many_labels_and_rare_ones():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(300), 6)
    texts = [f"{'about ' * int(rng.integers(3))}topic{label} today number{int(rng.integers(99))}" for label in labels]
    labels[[5, 500]] = [7, 8]
    labels = np.concatenate([labels, [999] * (FOLDS - 1)])
    words = words_of([*texts, *(f"rare text {n}" for n in range(FOLDS - 1))])
    errors = find_label_errors(words, labels)
    assert {*errors.rows[:2].tolist()} == {5, 500}
    assert {*errors.suggested[:2].tolist()} == {0, 83}
    assert 999 not in errors.suggested
    assert features(words, 300).shape[1] * 300 <= 2_000_000


@pytest.mark.parametrize(
    ("labels", "text"),
    [([0] * 40, "text {}"), ([0, 1] * 4, "text {}"), ([], ""), ([0, 1] * 40, "!"), ([0, 1] * 40, "w{}")],
)
def test_where_nothing_can_be_judged(labels, text):
    errors = find_label_errors(words_of([text.format(n) for n in range(len(labels))]), np.array(labels, np.int64))
    assert (len(errors.rows), errors.n_judged) == (0, 0)


def test_margins_by_hand():
    probabilities = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.8, 0.2, 0.0], [0.1, 0.3, 0.6], [0.0, 0.6, 0.4]])
    classes = np.array([0, 1, 1, 2, 2])
    margins, best = margins_of(probabilities, classes)
    assert margins.tolist() == pytest.approx([0.8, 0.5, -0.6, 0.3, -0.2])
    assert best.tolist() == [1, 0, 0, 1, 1]
