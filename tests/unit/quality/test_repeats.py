"""Repeated texts: what numpy finds is what a dictionary finds."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from feathertune.quality.repeats import find_repeats

ROWS = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 2), st.integers(-1, 2), st.booleans()), max_size=25)


@given(ROWS)
def test_against_a_dictionary(rows):
    texts, labels, splits, usable = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], [])
    found = find_repeats(
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
    assert found.rows.tolist() == [row for group in repeated for row in group], "in the order of their first rows"
    assert found.groups.tolist() == [n for n, group in enumerate(repeated) for _ in group]
    assert np.flatnonzero(found.is_first).tolist() == sorted(group[0] for group in by_text.values())
    assert found.contradicted.tolist() == [len({labels[row] for row in group}) > 1 for group in repeated]
    assert found.last_split.tolist() == [max(splits[row] for row in group) for group in repeated]
    assert found.first_split.tolist() == [min(splits[row] for row in group) for group in repeated]
    assert found.first_rows().tolist() == [group[0] for group in repeated]
    against = [
        next((other for other in group if labels[other] != labels[row]), -1) for group in repeated for row in group
    ]
    assert found.against(np.array(labels, np.int32)).tolist() == against
    assert found.n_repeated == sum(len(group) - 1 for group in repeated)
