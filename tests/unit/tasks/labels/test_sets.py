"""Several labels a text: read from separators and lists, split so that every label is in its proportion."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feathertune.config import load_config
from feathertune.data.sources.collector import Collector, ReadOptions
from feathertune.data.sources.registry import load_source
from feathertune.data.splitting.pool import nested_rows
from feathertune.data.splitting.splits import make_splits
from feathertune.errors import ConfigError, DataError
from feathertune.tasks.labels.classes import CLASS_LABELS
from feathertune.tasks.labels.kind import encode_known
from feathertune.tasks.labels.sets import LABEL_SETS
from feathertune.tasks.labels.stratify import covering_rows, iterative_draw


def test_a_separator_makes_sets(tmp_path):
    path = tmp_path / "tickets.csv"
    path.write_text("text,label\nslow,billing | speed|billing\nfine,\nold,speed\n")
    data = load_source(str(path), ReadOptions(label_separator="|"))
    assert data.labels == [("billing", "speed"), (), ("speed",)]
    assert data.kind == LABEL_SETS
    assert "A text may have several labels; 1 of 3 have none." in data.notes
    with pytest.raises(DataError, match="1 without a label"):
        load_source(str(path))  # without one, an empty cell is a mistake
    path.write_text("text,label\na,x|y\nb,z\n")
    assert load_source(str(path)).labels == ["x|y", "z"]
    assert load_source(str(path), ReadOptions(task="multi_label")).labels == [("x|y",), ("z",)]


def test_lists_are_sets(tmp_path):
    rows = [{"text": "a", "labels": ["y", "x"]}, {"text": "b", "labels": []}, {"text": "c", "labels": [3, True]}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert load_source(str(tmp_path / "in.jsonl")).labels == [("x", "y"), (), ("3", "true")]
    pq.write_table(pa.table({"text": ["a", "b"], "labels": [["y", "x"], []]}), tmp_path / "in.parquet")
    assert load_source(str(tmp_path / "in.parquet")).labels == [("x", "y"), ()]
    (tmp_path / "in.jsonl").write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": ["x"]}\n')
    with pytest.raises(DataError, match=r"line 2: the label is the list \['x'\], but each text has one label here"):
        load_source(str(tmp_path / "in.jsonl"))
    (tmp_path / "in.jsonl").write_text('{"text": "a", "label": [["x"]]}\n')
    with pytest.raises(DataError, match="Expected a string, a whole number or a boolean"):
        load_source(str(tmp_path / "in.jsonl"))


def test_a_separator_and_one_label_contradict_each_other():
    with pytest.raises(ConfigError, match="label_separator does not fit the task single_label"):
        load_config(options={"data.label_separator": "|", "data.task": "single_label"})
    with pytest.raises(ConfigError, match=r"has no columns to choose from. Leave out data.label_separator"):
        load_source("sample:rotten-tomatoes", ReadOptions(label_separator="|"))


def test_the_fingerprint_knows_sets():
    prints = set()
    for label in ("ab", ["ab"], ["a", "b"], [], ["a"]):
        collector = Collector("x", drop_invalid=False)
        collector.add("text", label, None, "row 1")
        prints.add(collector.finish().fingerprint)
    assert len(prints) == 5


def members(n, seed=0):
    """Labels from half of the rows to one in a hundred, and rows with none."""
    rng = np.random.default_rng(seed)
    return (rng.random((n, 6)) < [0.5, 0.3, 0.1, 0.05, 0.02, 0.01]).astype(np.int8)


def test_every_label_is_drawn_in_its_proportion():
    rows = members(2000)
    off, plain = [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        drawn = iterative_draw(rows, 500, rng=rng, first=False)
        assert drawn.sum() == 500
        wanted = rows.sum(axis=0) / 4
        off.append(np.abs(rows[drawn].sum(axis=0) - wanted).max())
        plain.append(np.abs(rows[rng.permutation(2000)[:500]].sum(axis=0) - wanted).max())
    assert max(off) <= 2, "to within two rows of each label"
    assert np.mean(plain) > 8, "which rows drawn at random do not reach"
    again = [iterative_draw(rows, 500, rng=np.random.default_rng(3), first=False) for _ in range(2)]
    assert (again[0] == again[1]).all()


@pytest.mark.parametrize("first", [False, True])
def test_a_label_of_one_row_goes_where_it_is_needed(first):
    rows = np.zeros((40, 2), np.int8)
    rows[:, 0] = 1
    rows[7, 1] = 1
    drawn = iterative_draw(rows, 10, rng=np.random.default_rng(0), first=first)
    assert drawn[7] == first
    assert drawn.sum() == 10
    assert iterative_draw(rows, 40, rng=np.random.default_rng(0), first=first).all()


def dataset(n=400):
    rows = members(n)
    collector = Collector("tags", drop_invalid=False)
    for i, row in enumerate(rows):
        collector.add(f"text {i}", [f"l{label}" for label in np.flatnonzero(row)], None, f"row {i}")
    return collector.finish(), rows


def test_splits_of_sets():
    data, rows = dataset()
    splits = make_splits(data, test_size=80, validation_size=40, seed=1)
    assert splits.kind == LABEL_SETS
    assert splits.labels == tuple(f"l{label}" for label in range(6))
    assert [len(splits[name].texts) for name in ("train", "validation", "test")] == [280, 40, 80]
    assert splits.train.labels.dtype == np.int8
    assert splits.train.labels.any(axis=0).all(), "each label is trained on"
    for name in ("train", "validation", "test"):
        split = splits[name]
        of_text = [rows[int(text.split()[1])] for text in split.texts]
        np.testing.assert_array_equal(split.labels, of_text)
    shares = splits.test.labels.mean(axis=0)
    assert np.abs(shares - rows.mean(axis=0)).max() < 0.02
    assert make_splits(data, test_size=80, validation_size=40, seed=1).fingerprint == splits.fingerprint
    small = make_splits(data, test_size=80, validation_size=40, train_size=30, seed=1)
    assert small.train.labels.any(axis=0).all()
    assert small.test.texts == splits.test.texts


def test_what_cannot_be_split_is_refused():
    def collected(labels, source="x"):
        collector = Collector(source, drop_invalid=False)
        for row, label in enumerate(labels):
            collector.add(f"{source} {row}", label, None, f"row {row}")
        return collector.finish()

    with pytest.raises(DataError, match=r"rows have no label\. Expected at least two labels"):
        make_splits(collected([[]] * 20))
    with pytest.raises(DataError, match=r"rows have 'a'\. Expected at least two labels"):
        make_splits(collected([["a"], []] * 20))
    several = collected([["a"], ["a", "b"]] * 20)
    with pytest.raises(DataError, match=r"no training row has these labels of test rows: 'c' \(1\)"):
        make_splits(several, test=collected([["a", "c"]], "test"))
    with pytest.raises(
        DataError, match=r"x has multi_label labels, but test has single_label labels.*--label-separator"
    ):
        make_splits(several, test=collected(["a"], "test"))


def test_fewer_rows_are_part_of_more():
    rows = members(300)
    sizes = (8, 20, 100, 300)
    drawn = [set(nested_rows(LABEL_SETS, rows, size, seed=2).tolist()) for size in sizes]
    assert [len(one) for one in drawn] == list(sizes)
    assert all(small < large for small, large in itertools.pairwise(drawn))
    assert rows[sorted(drawn[0])].any(axis=0).all()
    assert len(covering_rows(rows, np.arange(300))) <= 6


def test_labels_as_a_bundle_counts_them():
    assert encode_known(CLASS_LABELS, ["b", "a"], ("a", "b"), "x").tolist() == [1, 0]
    assert encode_known(LABEL_SETS, [("b",), ()], ("a", "b"), "x").tolist() == [[0, 1], [0, 0]]
    with pytest.raises(DataError, match=r"x has labels that the bundle was not trained on: c\. Expected: a, b"):
        encode_known(LABEL_SETS, [("b", "c")], ("a", "b"), "x")
