"""A sample of a stream: fair, the same for the same seed, and bounded in rows and in characters."""

import numpy as np

from feathertune.quality.sample import Sample


def drawn(n, seed=0, block=100, length=10, **bounds):
    sample = Sample(seed, **bounds)
    for start in range(0, n, block):
        rows = np.arange(start, min(n, start + block))
        sample.add([f"{row:0{length}d}" for row in rows], rows)
    return sample.finish()


def test_all_where_there_are_few():
    rows, texts = drawn(50, most_rows=50)
    assert rows.tolist() == list(range(50))
    assert texts[7] == "0000000007"


def test_every_row_has_the_same_chance():
    counts = np.zeros(1000)
    for seed in range(200):
        rows, texts = drawn(1000, seed, most_rows=100)
        assert len(rows) == 100
        assert [int(text) for text in texts] == rows.tolist()
        counts[rows] += 1
    # 20 expected of each; sums over tenths of the stream have a standard deviation of some 42.
    tenths = counts.reshape(10, 100).sum(axis=1)
    assert np.abs(tenths - 2000).max() < 4 * 42
    assert drawn(1000, 3, most_rows=100)[0].tolist() == drawn(1000, 3, most_rows=100, block=7)[0].tolist()


def test_characters_are_bounded():
    rows, texts = drawn(3000, length=1000, most_rows=2000, most_characters=50_000)
    assert len(rows) == 50
    assert sum(map(len, texts)) <= 50_000
    assert rows.max() > 1000, "from all of the stream"
