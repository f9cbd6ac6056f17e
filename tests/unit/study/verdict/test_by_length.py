"""Every test row is in one bucket, texts that fit never in one with those that do not, and scores are the bucket's."""

from itertools import pairwise

import numpy as np
import pytest

from feathertune.study.verdict.summary import LEAST_ROWS, by_length
from measured import accuracy

RNG = np.random.default_rng(0)


def found(n_tokens, max_length=100, answers=None):
    n_tokens = np.array(n_tokens)
    right = answers or {"lora": np.ones((1, len(n_tokens)), bool)}
    answers = {method: accuracy(rows) for method, rows in right.items()}
    unread = np.maximum(0, n_tokens - max_length)
    return by_length(answers, n_tokens=n_tokens, n_unread=unread, max_length=max_length)


def test_buckets_end_at_powers_of_two_and_where_texts_no_longer_fit():
    buckets = found(np.repeat([20, 33, 64, 65, 100, 101, 128, 129, 5000], LEAST_ROWS))
    spans = [(b.shortest, b.longest, b.n // LEAST_ROWS) for b in buckets]
    assert spans == [(20, 20, 1), (33, 64, 2), (65, 100, 2), (101, 128, 2), (129, 129, 1), (5000, 5000, 1)]
    assert [b.unread_fraction for b in buckets[:4]] == [0, 0, 0, pytest.approx(29 / 229)]


@pytest.mark.parametrize("max_length", [8, 100, 128, 9000])
def test_every_row_is_in_one_and_few_rows_join_their_neighbours(max_length):
    n_tokens = RNG.geometric(1 / 150, 400) + 2
    buckets = found(n_tokens, max_length)
    assert sum(b.n for b in buckets) == 400
    for one, other in pairwise(buckets):
        assert one.longest < other.shortest
        assert not one.longest > max_length >= other.shortest
    for fits in (True, False):
        side = [b for b in buckets if (b.longest <= max_length) == fits]
        assert len(side) < 2 or min(b.n for b in side) >= LEAST_ROWS
        assert all(b.shortest > max_length for b in side) or fits


def test_scores_are_of_the_rows_of_the_bucket():
    n_tokens = np.repeat([50, 500], 30)
    lora = np.zeros((3, 60), bool)
    lora[:, :30], lora[0, 30:40] = True, True
    short, long = found(n_tokens, answers={"lora": lora, "full": np.ones((1, 60), bool)})
    assert [(one.method, one.score) for one in short.scores] == [("lora", 1.0), ("full", 1.0)]
    assert long.scores[0].score == pytest.approx(10 / 90)
    assert 0 <= long.scores[0].low < 10 / 90 < long.scores[0].high < 1
    assert long.unread_fraction == 0.8


def test_one_row_is_enough():
    (bucket,) = found([7])
    assert (bucket.shortest, bucket.longest, bucket.n) == (7, 7, 1)
    assert bucket.scores[0].low < 1 == bucket.scores[0].high
