"""The benchmark of base rankings: its probe is the command's, and what a ranking loses is counted."""

import bench_bases
import numpy as np
import pytest

from feathertune.baselines.leave_one_out import leave_one_out
from feathertune.statistics.measures import EXPLAINED


def test_the_probe_is_that_of_the_command():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 40)
    values = rng.normal(size=(40, 9)) + labels[:, None]
    targets = np.eye(2)[labels]
    expected = EXPLAINED.answers(targets, leave_one_out(values, targets)[None]).score
    assert bench_bases.floored_r2(values, labels) == pytest.approx(expected)


def test_a_ranking_loses_what_its_first_base_is_below_the_best():
    def base(test, score, parameters):
        return {
            "test": {"0": test},
            "scores": {"s": score},
            "score_seconds": {"s": 1.0},
            "pass_seconds": 1.0,
            "parameters": parameters,
            "training_seconds": {"0": 20.0},
        }

    found = bench_bases.rankings({"a": base(0.80, 0.3, 5), "b": base(0.75, 0.4, 4), "c": base(0.70, 0.1, 3)})
    assert found["s"]["takes"] == "b"
    assert found["s"]["points_lost"] == pytest.approx(5)
    assert found["s"]["kendall"] == pytest.approx(1 / 3)
    assert found["s"]["cost"] == pytest.approx(0.1)
    assert (found["parameters"]["takes"], found["parameters"]["kendall"]) == ("a", pytest.approx(1))
