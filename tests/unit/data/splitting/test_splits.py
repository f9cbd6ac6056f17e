"""Splits: disjoint, stratified, seeded, without leaks; and the refusals."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feathertune.data.sources.collector import Collector
from feathertune.data.splitting.splits import make_splits
from feathertune.errors import ConfigError, DataError
from feathertune.tasks.labels.stratify import allocate

FUZZ = settings(max_examples=100, deadline=None, database=None)
ROWS = {"train": 60, "validation": 20, "test": 20}


def dataset(rows, *, order=None, source="data.csv", notes=()):
    """A dataset of (text, label) or (text, label, split)."""
    collector = Collector(source, drop_invalid=False)
    for number, (text, label, *split) in enumerate(rows):
        collector.add(text, label, split[0] if split else None, f"row {number}")
    return collector.finish(label_order=order, notes=notes)


def balanced(n, labels=("a", "b"), prefix="text"):
    return [(f"{prefix} {i}", labels[i % len(labels)]) for i in range(n)]


def with_splits(**sizes):
    return [(*row, split) for split, n in sizes.items() for row in balanced(n, prefix=split)]


def parts(splits):
    return [splits.train, splits.validation, splits.test]


def sizes(splits):
    return [len(part.texts) for part in parts(splits)]


def refused(rows, error=DataError, **options):
    with pytest.raises(error) as caught:
        make_splits(rows if hasattr(rows, "texts") else dataset(rows), **options)
    return str(caught.value)


@st.composite
def labelled(draw):
    """Rows of 2 to 4 classes with at least 5 rows each, each text once, in any order."""
    counts = draw(st.lists(st.integers(5, 40), min_size=2, max_size=4))
    rows = [(f"{label} {i}", f"class {label}") for label, n in enumerate(counts) for i in range(n)]
    return draw(st.permutations(rows))


@FUZZ
@given(rows=labelled(), seed=st.integers(0, 9), share=st.sampled_from([None, 0.2, 0.34]))
def test_every_row_is_in_one_split_and_classes_keep_their_share(rows, seed, share):
    data = dataset(rows)
    splits = make_splits(data, test_size=share, validation_size=share, seed=seed)
    label_of = dict(rows)
    assert sorted(text for part in parts(splits) for text in part.texts) == sorted(label_of)
    for part in parts(splits):
        assert part.labels.dtype == np.int64
        assert [splits.labels[i] for i in part.labels] == [label_of[text] for text in part.texts]
        order = [data.texts.index(text) for text in part.texts]
        assert order == sorted(order)
    total = Counter(label_of.values())
    counts = Counter(label_of[text] for text in splits.test.texts)
    for label, n in total.items():
        assert counts[label] >= 1
        assert abs(counts[label] - n * len(splits.test.texts) / len(rows)) < 1
    again = make_splits(data, test_size=share, validation_size=share, seed=seed)
    assert [part.texts for part in parts(again)] == [part.texts for part in parts(splits)]
    assert again.fingerprint == splits.fingerprint
    assert splits.overlap_removed == 0


@FUZZ
@given(
    rows=st.lists(st.tuples(st.sampled_from("abcdefghijkl"), st.sampled_from("xyz")), min_size=9, max_size=60),
    seed=st.integers(0, 9),
    source_splits=st.booleans(),
    data=st.data(),
)
def test_no_text_is_in_two_splits(rows, seed, source_splits, data):
    if source_splits:
        names = data.draw(st.lists(st.sampled_from(list(ROWS)), min_size=len(rows), max_size=len(rows)))
        rows = [(*row, name) for row, name in zip(rows, names, strict=True)]
    try:
        splits = make_splits(dataset(rows), seed=seed)
    except DataError:
        return
    train, validation, test = (set(part.texts) for part in parts(splits))
    assert not train & test
    assert not train & validation
    assert not validation & test
    assert sum(sizes(splits)) + splits.overlap_removed == len(rows)
    if source_splits and "test" in names:
        assert splits.test.texts == [row[0] for row in rows if row[2] == "test"]
    assert set(splits.train.labels) == set(range(len(splits.labels)))


@FUZZ
@given(
    available=st.lists(st.integers(2, 1000), min_size=1, max_size=8),
    keep=st.integers(0, 1),
    data=st.data(),
)
def test_allocation(available, keep, data):
    available = np.array(available)
    most = available - keep
    size = data.draw(st.integers(1, int(most.sum())))
    counts = allocate(available, size, keep=keep)
    assert counts.sum() == size
    assert (counts <= most).all()
    if size >= len(available):
        assert (counts >= 1).all()
    share = available * size / available.sum()
    if (share >= 1).all() and (np.ceil(share) <= most).all():
        assert (np.abs(counts - share) < 1 + 1e-9).all()


def test_rare_classes_get_a_row_at_the_cost_of_the_largest():
    assert allocate(np.array([950, 25, 25]), 10).tolist() == [8, 1, 1]
    assert allocate(np.array([950, 25, 25]), 2).tolist() == [2, 0, 0]
    assert allocate(np.array([100, 3]), 90, keep=2).tolist() == [89, 1]


def test_default_sizes():
    assert sizes(make_splits(dataset(balanced(10_000)))) == [7200, 800, 2000]  # a fifth, then a tenth
    assert sizes(make_splits(dataset(balanced(1250)))) == [800, 200, 250]  # at least 200
    assert sizes(make_splits(dataset(balanced(500)))) == [300, 100, 100]  # but not over a quarter
    assert sizes(make_splits(dataset(balanced(6)))) == [2, 2, 2]  # and each class in each split
    assert sizes(make_splits(dataset(balanced(10_000)), train_size=3000)) == [3000, 300, 2000]


def test_sizes_by_number_and_share():
    splits = make_splits(dataset(balanced(1000)), train_size=100, validation_size=50, test_size=0.5)
    assert sizes(splits) == [100, 50, 500]
    counts = [Counter(part.labels.tolist()) for part in parts(splits)]
    assert counts == [{0: 50, 1: 50}, {0: 25, 1: 25}, {0: 250, 1: 250}]
    assert sizes(make_splits(dataset(balanced(1000)), validation_size=0.25, test_size=200)) == [600, 200, 200]


def test_seeds_and_sizes_decide_only_what_they_must():
    data = dataset(balanced(1000))
    zero, one = make_splits(data, seed=0), make_splits(data, seed=1)
    assert zero.test.texts != one.test.texts
    assert zero.validation.texts != one.validation.texts
    assert zero.fingerprint != one.fingerprint
    small, larger = (make_splits(data, train_size=n, validation_size=100) for n in (50, 100))
    assert small.test.texts == larger.test.texts == zero.test.texts
    assert small.validation.texts == larger.validation.texts
    assert set(small.train.texts) < set(larger.train.texts)


def test_fingerprint_is_of_the_content():
    rows = balanced(100)
    base = make_splits(dataset(rows))
    assert make_splits(dataset(rows, source="elsewhere.csv")).fingerprint == base.fingerprint
    other = [("another text", "a"), *rows[1:]]
    assert make_splits(dataset(other)).fingerprint != base.fingerprint


def test_a_sources_own_splits_are_kept():
    rows = with_splits(**ROWS)
    splits = make_splits(dataset(rows))
    assert [part.texts for part in parts(splits)] == [[r[0] for r in rows if r[2] == s] for s in ROWS]
    assert splits.notes == ()
    assert make_splits(dataset(rows), seed=5).fingerprint == splits.fingerprint


def test_validation_comes_from_training_rows_never_from_test():
    splits = make_splits(dataset(with_splits(train=60, test=20)))
    assert sizes(splits) == [45, 15, 20]
    assert all(text.startswith("train") for text in splits.validation.texts)
    splits = make_splits(dataset(with_splits(train=60, validation=20)))
    assert sizes(splits) == [48, 20, 12]
    assert all(text.startswith("train") for text in splits.test.texts)


def test_a_sources_own_splits_are_cut_only_to_a_whole_number():
    rows = with_splits(**ROWS)
    splits = make_splits(dataset(rows, notes=("from the source",)), test_size=10, validation_size=6)
    assert sizes(splits) == [60, 6, 10]
    assert Counter(splits.test.labels.tolist()) == {0: 5, 1: 5}
    assert splits.notes == (
        "from the source",
        "10 of the 20 test rows of data.csv are used.",
        "6 of the 20 validation rows of data.csv are used.",
    )
    splits = make_splits(dataset(rows), test_size=0.1)
    assert sizes(splits) == [60, 20, 20]
    assert splits.notes == ("test_size 0.1 does not apply: data.csv has its own test rows.",)


def test_a_test_source_of_its_own():
    data = dataset(with_splits(**ROWS))
    other = dataset(balanced(40, prefix="other"), source="other.csv", notes=("a note",))
    splits = make_splits(data, test=other)
    assert splits.test.texts == other.texts
    assert (splits.source, splits.test_source) == ("data.csv", "other.csv")
    assert splits.notes == ("a note", "The 20 test rows of data.csv are not used.")
    assert sizes(splits) == [60, 20, 40]
    assert splits.fingerprint != make_splits(data).fingerprint
    with_own = dataset(with_splits(train=30, test=10), source="other.csv")
    assert sizes(make_splits(dataset(balanced(100)), test=with_own)) == [75, 25, 10]
    assert sizes(make_splits(dataset(balanced(100)), test=other, test_size=8))[2] == 8


def test_texts_of_later_splits_are_removed_and_counted():
    rows = with_splits(train=20, validation=10, test=10)
    rows += [("test 0", "a", "train"), ("validation 0", "a", "train"), ("test 1", "b", "validation")]
    rows += [("train 0", "a", "train")]  # twice within one split is no leak
    splits = make_splits(dataset(rows))
    assert splits.overlap_removed == 3
    assert sizes(splits) == [21, 10, 10]
    # What is removed is removed before the rows to train on are counted off.
    assert sizes(make_splits(dataset(rows), train_size=20)) == [20, 10, 10]


def test_duplicates_that_the_source_removed_are_added_up():
    collectors = [Collector("x", drop_invalid=False, drop_duplicates=True) for _ in range(2)]
    for collector, start in zip(collectors, (0, 500), strict=True):
        for text, label in [*balanced(100), *balanced(3)]:
            collector.add(f"{start} {text}", label, None, "")
    data, other = (collector.finish() for collector in collectors)
    assert make_splits(data).duplicates_removed == 3
    assert make_splits(data, test=other).duplicates_removed == 6


@pytest.mark.parametrize(
    ("labels", "order", "expected"),
    [
        (("b", "a"), None, ("a", "b")),
        (("10", "9", "-1"), None, ("-1", "9", "10")),
        (("10", "9", "x"), None, ("10", "9", "x")),
        (("neg", "pos"), ("pos", "neg"), ("pos", "neg")),
        (("neg", "pos"), ("pos", "neutral", "neg"), ("pos", "neg")),
    ],
)
def test_label_order(labels, order, expected):
    splits = make_splits(dataset(balanced(30, labels), order=order))
    assert splits.labels == expected
    left = "No training row has these labels of data.csv: 'neutral'."
    assert splits.notes == ((left,) if order and "neutral" in order else ())


@pytest.mark.parametrize(
    ("rows", "options", "parts"),
    [
        (balanced(20, ("a",)), {}, ["all 20 training rows have the label 'a'", "at least two classes"]),
        (
            [*balanced(20), ("x", "rare")],
            {},
            ["too few rows of 'rare' (1): 3 are needed, one for each split"],
        ),
        ([*balanced(20), ("x", "rare"), ("y", "rare")], {}, ["'rare' (2): 3 are needed"]),
        (
            [*balanced(20), *[("same", "rare")] * 3],
            {},
            ["'rare' (0) after 2 duplicates of test rows were removed"],
        ),
        (
            [
                *with_splits(train=20, test=4),
                ("x", "new", "test"),
                ("y", "new", "test"),
                ("z", "odd", "test"),
            ],
            {},
            [
                "no training row has these labels of test rows: 'new' (2), 'odd' (1)",
                "training rows have 'a', 'b'",
            ],
        ),
        (
            [*with_splits(train=20, validation=4), ("x", "new", "validation")],
            {},
            ["no training row has these labels of validation rows: 'new' (1)"],
        ),
        ([*with_splits(**ROWS), ("test 0", "c", "train")], {}, ["'c' (0) to train on", "1 rows"]),
        (with_splits(test=20), {}, ["data.csv has no training rows. Found: 'test' (20)"]),
        (
            [*with_splits(train=20, test=4), ("test 0", "a", "validation")],
            {},
            ["every validation text also occurs in the test rows"],
        ),
        (
            balanced(100),
            {"train_size": 200},
            [
                "train_size is 200. Expected 2",
                "to 60. Of the other rows of data.csv",
                "20 are for test, 20 are for validation, and 0 are duplicates",
            ],
        ),
        (
            balanced(100, ("a", "b", "c")),
            {"train_size": 2},
            ["train_size is 2. Expected 3 to"],
        ),
        (
            balanced(100),
            {"test_size": 100},
            ["test_size is 100, but data.csv has only 100 rows", "4 of them must stay"],
        ),
        (balanced(100), {"test_size": 0.99}, ["test_size is 99"]),
        (
            balanced(100),
            {"validation_size": 80},
            ["validation_size is 80, but data.csv has only 80 rows", "2 of them must stay"],
        ),
        (
            with_splits(**ROWS),
            {"test_size": 21},
            ["test_size is 21, but data.csv has only 20 rows to draw from."],
        ),
    ],
)
def test_refusals(rows, options, parts):
    message = refused(rows, **options)
    assert [part for part in parts if part not in message] == []


@pytest.mark.parametrize("size", [1.0, 2.5, -3, -0.5, float("nan")])
def test_sizes_that_are_none(size):
    for key in ("test_size", "validation_size"):
        assert f"data.{key} is" in refused(balanced(100), ConfigError, **{key: size})
        assert f"data.{key} is" in refused(with_splits(**ROWS), ConfigError, **{key: size})


def test_no_test_rows_at_all():
    splits = make_splits(dataset(balanced(100)), test_size=0)
    assert sizes(splits) == [75, 25, 0]
    assert len(splits.test.labels) == 0
    splits = make_splits(dataset(with_splits(**ROWS)), test_size=0)
    assert sizes(splits) == [ROWS["train"], ROWS["validation"], 0]
    assert splits.notes == (f"The {ROWS['test']} test rows are not used: test_size is 0.",)


def test_a_test_source_that_does_not_fit():
    data = dataset(balanced(100))
    other = dataset(balanced(10, ("good", "bad")), source="other.csv")
    message = refused(data, test=other)
    assert "other.csv: no training row has these labels of test rows: 'good' (5), 'bad' (5)" in message
    other = dataset(with_splits(train=10), source="other.csv")
    assert "other.csv has no test rows. Found: 'train' (10)" in refused(data, test=other)


def test_many_labels_are_listed_short():
    rows = with_splits(train=20) + [(f"x {i}", f"new {i}", "test") for i in range(30)]
    assert "... (30 in all)" in refused(rows)


def test_no_validation_rows_at_all():
    rows = dataset(balanced(100))
    usual, without = make_splits(rows), make_splits(rows, validation_size=0)
    assert sizes(without) == [80, 0, 20]
    assert without.test.texts == usual.test.texts
    assert set(without.train.texts) == {*usual.train.texts, *usual.validation.texts}
    assert sizes(make_splits(dataset(balanced(4)), validation_size=0, test_size=2)) == [2, 0, 2], "none is set aside"
    own = make_splits(dataset(with_splits(**ROWS)), validation_size=0)
    assert sizes(own) == [60, 0, 20]
    assert own.notes == ("The 20 validation rows are not used: validation_size is 0.",)
