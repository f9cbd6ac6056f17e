"""The table of `bench_few_labels.py`: paired by draw, with signs and intervals that are those of scipy."""

import numpy as np
import pytest
from bench_few_labels import SETFIT, over_draws, table, text, without_answers
from scipy import stats


def run(accuracy, seconds):
    correct = np.zeros(100, dtype=bool)
    correct[: round(100 * accuracy)] = True
    return {"accuracy": accuracy, "seconds": seconds, "loading_seconds": 0.1, "correct": correct}


RUNS = {
    SETFIT: [run(0.60, 4.0), run(0.55, 5.0), run(0.62, 6.0)],
    "probe": [run(0.63, 1.0), run(0.55, 1.0), run(0.61, 1.0)],
}


def test_differences_are_paired_by_draw():
    setfit, probe = table(RUNS)
    assert "difference" not in setfit
    assert setfit["accuracy"] == pytest.approx(0.59)
    found = probe["difference"]
    assert found["mean"] == pytest.approx(0.02 / 3)
    assert (found["draws_won"], found["draws_lost"]) == (1, 1)
    apart = [0.03, 0.0, -0.01]
    expected = stats.ttest_1samp(apart, 0).confidence_interval(0.95)
    assert found["over_draws_95"] == pytest.approx([expected.low, expected.high])
    assert probe["times_as_fast"] == {"median": 5.0, "least": 4.0, "most": 6.0}
    assert over_draws(np.array([0.1])) is None
    assert "probe" in text(8, [setfit, probe])
    assert all("correct" not in one for some in without_answers(RUNS).values() for one in some)
