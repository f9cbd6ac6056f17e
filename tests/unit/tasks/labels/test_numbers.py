"""Labels that are numbers: which are, how rows are drawn, and what is refused."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from e2e.cli import write_csv
from feathertune.config import load_config
from feathertune.data.sources.collector import Collector, ReadOptions
from feathertune.data.sources.registry import load_source
from feathertune.data.splitting.pool import nested_rows
from feathertune.data.splitting.splits import make_splits
from feathertune.errors import ConfigError, DataError
from feathertune.tasks.labels.classes import CLASS_LABELS
from feathertune.tasks.labels.numbers import NUMBER_LABELS
from feathertune.tasks.labels.reader import LabelReader
from feathertune.tasks.labels.stratify import even_draw
from feathertune.tasks.labels.values import number_of

FUZZ = settings(max_examples=100, deadline=None, database=None)


def read(tmp_path, labels, task="auto"):
    rows = [(f"text {i}", label) for i, label in enumerate(labels)]
    return load_source(str(write_csv(tmp_path / "in.csv", rows)), ReadOptions(task=task))


def read_json(tmp_path, labels, task="auto"):
    rows = [{"text": f"text {i}", "label": label} for i, label in enumerate(labels)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_source(str(tmp_path / "in.jsonl"), ReadOptions(task=task))


def dataset(numbers, split=None, prefix="text"):
    collector = Collector("data.csv", drop_invalid=False, labels=LabelReader(task="regression"))
    for row, number in enumerate(numbers):
        collector.add(f"{prefix} {row}", float(number), split, f"row {row}")
    return collector.finish()


# Which are numbers


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["1", "2.5", "-3", "1e-3", " .5 "], [1.0, 2.5, -3.0, 0.001, 0.5]),
        (["1", "2", "5"], ["1", "2", "5"]),
        (["1.0", "2.0"], ["1.0", "2.0"]),
        (["1.5", "good"], ["1.5", "good"]),
        (["1.5", "nan"], ["1.5", "nan"]),
        (["1.5", "inf"], ["1.5", "inf"]),
        (["1.5", "1_000"], ["1.5", "1_000"]),
        (["1.5", "1e999"], ["1.5", "1e999"]),
        (["1.5", "٣"], ["1.5", "٣"]),
    ],
)
def test_numbers_are_found_where_all_are_and_one_has_a_fraction(tmp_path, labels, expected):
    data = read(tmp_path, labels)
    assert data.labels == expected
    assert data.kind == (NUMBER_LABELS if isinstance(expected[0], float) else CLASS_LABELS)


def test_numbers_of_every_type(tmp_path):
    assert read_json(tmp_path, [1, 2.5, "3.5", -1.0]).labels == [1.0, 2.5, 3.5, -1.0]
    with pytest.raises(DataError, match=r"line 2: the label is 2.5 of type float"):
        read_json(tmp_path, ["good", 2.5])
    with pytest.raises(DataError, match=r"line 1: the label is 2.5 of type float"):
        read_json(tmp_path, [2.5, 1], task="single_label")
    assert read_json(tmp_path, [1, 2], task="regression").labels == [1.0, 2.0]
    pq.write_table(pa.table({"text": ["a", "b"], "label": [Decimal("2.50"), Decimal("1.00")]}), tmp_path / "in.parquet")
    assert load_source(str(tmp_path / "in.parquet")).labels == [2.5, 1.0]
    pq.write_table(pa.table({"text": ["a", "b"], "label": pa.array([0.5, 2], pa.float32())}), tmp_path / "in.parquet")
    assert load_source(str(tmp_path / "in.parquet")).labels == [0.5, 2.0]
    for value in (True, None, "", [1.5], 10**400, float("nan"), 1j):
        assert number_of(value) is None


def test_names_that_a_source_states_stay_names():
    collector = Collector("data", drop_invalid=False)
    for row, label in enumerate(["1.5", "2.5"]):
        collector.add(f"text {row}", label, None, f"row {row}")
    assert collector.finish(label_order=("1.5", "2.5")).labels == ["1.5", "2.5"]


def test_what_is_no_number_is_refused_with_its_row_or_left_out(tmp_path):
    rows = [("a", "1"), ("b", "good"), ("c", "2"), ("d", "3,5")]
    name = str(write_csv(tmp_path / "in.csv", rows))
    with pytest.raises(
        DataError, match=r"2 whose label is not a finite number \(in.csv, row 2: 'good', in.csv, row 4: "
    ):
        load_source(name, ReadOptions(task="regression"))
    data = load_source(name, ReadOptions(task="regression", drop_invalid=True))
    assert (data.labels, data.rows_dropped) == ([1.0, 2.0], 2)


def test_a_separator_and_numbers_contradict_each_other():
    with pytest.raises(ConfigError, match="does not fit the task regression"):
        load_config(options={"data.label_separator": "|", "data.task": "regression"})


# Drawing


@FUZZ
@given(n=st.integers(1, 60), data=st.data(), seed=st.integers(0, 50))
def test_an_even_draw_takes_as_many_as_asked_from_every_part(n, data, seed):
    size = data.draw(st.integers(0, n))
    numbers = np.array(data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n)), dtype=np.float64)
    drawn = even_draw(numbers, size, rng=np.random.default_rng(seed))
    assert drawn.sum() == size
    # Of any smallest numbers the share that is drawn is that of all, to within one row.
    below = np.cumsum(drawn[np.lexsort((~drawn, numbers))])
    for value in range(6):
        k = int((numbers <= value).sum())
        if k:
            assert abs(below[k - 1] - k * size / n) <= 1 + 1e-9


def test_each_row_is_drawn_as_often():
    rng = np.random.default_rng(0)
    counts = sum(even_draw(np.arange(7.0), 3, rng=rng).astype(int) for _ in range(7000))
    np.testing.assert_allclose(counts / 7000, 3 / 7, atol=0.03)


def test_splits_lie_alike():
    numbers = np.random.default_rng(1).gamma(2.0, 3.0, 1000)
    splits = make_splits(dataset(numbers))
    assert splits.kind == NUMBER_LABELS
    assert splits.labels == ("number",)
    parts = (splits.train, splits.validation, splits.test)
    assert [len(part.labels) for part in parts] == [600, 200, 200]
    assert {part.labels.dtype for part in parts} == {np.dtype(np.float64)}
    of_text = dict(zip(dataset(numbers).texts, numbers, strict=True))
    for part in parts:
        assert [of_text[text] for text in part.texts] == part.labels.tolist()
        assert ks_2samp(part.labels, numbers).statistic < 0.02
    again = make_splits(dataset(numbers), train_size=50)
    assert again.test.texts == splits.test.texts
    assert len(again.train.labels) == 50
    other = make_splits(dataset(numbers), seed=1)
    assert other.test.texts != splits.test.texts


def test_fewer_rows_are_part_of_more_and_lie_alike():
    numbers = np.random.default_rng(1).gamma(2.0, 3.0, 500)
    small, large = (nested_rows(NUMBER_LABELS, numbers, size, seed=3) for size in (50, 200))
    assert (len(small), len(large)) == (50, 200)
    assert set(small) < set(large)
    assert ks_2samp(numbers[small], numbers).statistic < 0.1


# What is refused


def test_too_few_rows_and_equal_numbers():
    with pytest.raises(DataError, match=r"all 10 training rows have the number 1\.0"):
        make_splits(dataset([1.0] * 10))
    with pytest.raises(DataError, match=r"too few rows \(2\): 3 are needed"):
        make_splits(dataset([1.0, 2.0]))
    with pytest.raises(DataError, match=r"test_size is 9, but data.csv has only 10 rows to draw from"):
        make_splits(dataset(range(10)), test_size=9)
    with pytest.raises(ConfigError, match="there are no classes to draw from"):
        NUMBER_LABELS.check_shots(np.array([1.5, 2.5]), 4, ("number",))


def test_both_sources_are_of_one_kind():
    names = Collector("names.csv", drop_invalid=False)
    for row in range(4):
        names.add(f"other {row}", str(row), None, f"row {row}")
    with pytest.raises(DataError, match=r"data.csv has regression labels, but names.csv has single_label labels"):
        make_splits(dataset(range(20)), test=names.finish())
    test = make_splits(dataset(range(20)), test=dataset(range(100, 104), prefix="other")).test
    assert test.labels.tolist() == [100.0, 101.0, 102.0, 103.0], "a number may be any"
