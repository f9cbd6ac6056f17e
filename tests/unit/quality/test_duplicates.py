"""Repeated texts: what numpy finds is what a dictionary finds."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from feathertune.quality.duplicates import find_duplicates

ROWS = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 2), st.integers(-1, 2), st.booleans()), max_size=25)


@given(ROWS)
def test_against_a_dictionary(rows):
    texts, labels, splits, usable = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], [])
    found = find_duplicates(
        np.array([hash(text) for text in texts], np.int64),
        np.array(labels, np.int32),
        np.array(splits, np.int8),
        np.array(usable, bool),
    )
    by_text = {}
    for row, (text, use) in enumerate(zip(texts, usable, strict=True)):
        if use:
            by_text.setdefault(text, []).append(row)
    repeated = [group for group in by_text.values() if len(group) > 1]
    rows = [row for group in repeated for row in group]
    group_of = [group for group in repeated for _ in group]
    assert found.rows.tolist() == rows, "in the order of their first rows"
    assert np.flatnonzero(found.is_first).tolist() == sorted(group[0] for group in by_text.values())
    contradicted = [len({labels[row] for row in group}) > 1 for group in group_of]
    last = [max(splits[row] for row in group) for group in group_of]
    assert found.contradicted.tolist() == contradicted
    assert found.last_split.tolist() == last
    assert found.first_split.tolist() == [min(splits[row] for row in group) for group in group_of]
    assert found.overlapping.tolist() == [splits[row] < split for row, split in zip(rows, last, strict=True)]
    kept = [next(row for row in group if splits[row] == split) for group, split in zip(group_of, last, strict=True)]
    assert found.kept.tolist() == kept
    against = [
        next((other for other in group if labels[other] != labels[row]), -1) for group in repeated for row in group
    ]
    assert found.against.tolist() == against
    assert found.n_repeated == sum(len(group) - 1 for group in repeated)
    assert found.n_texts(found.contradicted) == sum(len({labels[row] for row in group}) > 1 for group in repeated)
