from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feathertune.report.side_files import read_answers, read_predictions, read_test_fingerprint

RUN = SimpleNamespace(id="lora-s0", predictions="predictions.parquet", predictions_sha256=None)
SETS = pa.list_(pa.int32())


def _write(folder, label, predicted):
    pq.write_table(pa.table({"row": [0, 1], "label": label, "predicted": predicted}), folder / RUN.predictions)


def test_sets_of_labels_become_rows_of_zero_and_one(tmp_path):
    _write(tmp_path, pa.array([[0, 2], []], SETS), pa.array([[2], [1]], SETS))
    found = read_predictions(tmp_path, RUN, 3)
    assert found.label.tolist() == [[1, 0, 1], [0, 0, 0]]
    assert found.predicted.tolist() == [[0, 0, 1], [0, 1, 0]]


def test_answers_do_not_depend_on_the_order_of_the_names(tmp_path):
    _write(tmp_path, pa.array([[0, 2], []], SETS), pa.array([[2], [1]], SETS))
    sets = read_answers(tmp_path, RUN, ("b", "c", "a"))
    assert sets.label.tolist() == [[1, 1, 0], [0, 0, 0]]
    _write(tmp_path, pa.array([0, 2]), pa.array([1, 1]))
    one = read_answers(tmp_path, RUN, ("b", "c", "a"))
    assert (one.label.tolist(), one.predicted.tolist()) == ([1, 0], [2, 2])


@pytest.mark.parametrize(
    ("label", "predicted", "n_classes"),
    [
        (pa.array([0, 3]), pa.array([0, 1]), 3),
        (pa.array([0, -1]), pa.array([0, 1]), 3),
        (pa.array([0, None]), pa.array([0, 1]), 3),
        (pa.array([[0], [3]], SETS), pa.array([[0], [1]], SETS), 3),
        (pa.array([[0], None], SETS), pa.array([[0], [1]], SETS), 3),
        (pa.array([[0], [1]], SETS), pa.array([0, 1]), 3),
        (pa.array([0.5, np.inf]), pa.array([0.5, 0.5]), 0),
        (pa.array([0, 1]), pa.array([0, 1]), 0),
    ],
)
def test_predictions_of_another_kind_are_none(tmp_path, label, predicted, n_classes):
    _write(tmp_path, label, predicted)
    assert read_predictions(tmp_path, RUN, n_classes) is None


@pytest.mark.parametrize(
    ("label", "names", "other"),
    [
        (pa.array([0, 1]), ("a", "b"), ("a", "c")),
        (pa.array([[0, 1], []], SETS), ("a", "b"), ("a", "c")),
    ],
)
def test_the_fingerprint_follows_the_names_of_the_labels(tmp_path, label, names, other):
    pq.write_table(pa.table({"row": [0, 1], "text": ["x", "y"], "label": label}), tmp_path / "test.parquet")
    found = read_test_fingerprint(tmp_path, names)
    assert found is not None
    assert found == read_test_fingerprint(tmp_path, names)
    assert found != read_test_fingerprint(tmp_path, other)
