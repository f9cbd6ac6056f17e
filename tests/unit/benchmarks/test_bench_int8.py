"""The arithmetic of the benchmark of 8-bit integers, on logits and clocks that are made up."""

import bench_int8
import numpy as np
import pytest

from feathertune.data.tokens.encode import EncodedTexts


def tokens(n):
    return EncodedTexts(np.arange(n, dtype=np.int32), np.arange(n + 1), 0, 0)


def test_everyone_gets_every_row_once_in_turn():
    asked = {name: [] for name in ("a", "b", "c")}
    now = iter(range(1_000))

    def contestant(name):
        def run(texts):
            asked[name].append(texts.ids.tolist())
            return np.stack([texts.ids, -texts.ids], axis=1)

        return run

    rounds, logits = bench_int8.in_turn({n: contestant(n) for n in asked}, tokens(20), 4, lambda: next(now))
    for name, chunks in asked.items():
        assert chunks[0] == list(range(8)), "the first call is not counted"
        assert [row for chunk in chunks[1:] for row in chunk] == list(range(20))
        assert logits[name][:, 0].tolist() == list(range(20))
    assert rounds == [{"a": 1, "b": 1, "c": 1}] * 4


def test_losses_are_paired_and_ratios_are_of_one_round():
    labels = np.array([0, 0, 1, 1] * 5)
    right = np.eye(2)[labels]
    wrong = right.copy()
    wrong[[0, 1, 2]] = right[[0, 1, 2]][:, ::-1]  # three rows lost
    base = right.copy()
    base[19] = base[19, ::-1]  # one that torch has wrong and the other right
    rounds = [{bench_int8.REFERENCE: 2.0, "other": 1.0}, {bench_int8.REFERENCE: 9.0, "other": 3.0}]
    table = bench_int8.summary(rounds, {bench_int8.REFERENCE: base, "other": wrong}, labels)
    row = table["other"]
    assert (row["rows_lost"], row["rows_gained"], row["label_flips"]) == (3, 1, 4)
    assert row["accuracy_loss_points"] == pytest.approx(10.0)
    assert row["loss_standard_error_points"] == pytest.approx(10.0)
    assert row["times_as_fast"] == {"median": 2.5, "lowest": 2.0, "highest": 3.0}
    assert table[bench_int8.REFERENCE]["label_flips"] == 0
