"""Coverage of the intervals of balanced accuracy, and false claims, in simulated studies; the benchmark has more."""

from __future__ import annotations

import numpy as np
import pytest
import simulate_unbalanced

HARD = {"shares": simulate_unbalanced.TWO, "recalls": simulate_unbalanced.HARD}


def test_drawn_recalls_are_those_asked_for():
    rng = np.random.default_rng(0)
    drawn = list(simulate_unbalanced.studies_of(rng, **HARD, rows=500, gap=0.05, seeds=3, studies=200))
    assert simulate_unbalanced.truths(**HARD, gap=0.05) == pytest.approx((0.835, 0.785))
    assert np.mean([a.score for a, _ in drawn]) == pytest.approx(0.835, abs=0.01)
    assert np.mean([b.score for _, b in drawn]) == pytest.approx(0.785, abs=0.01)
    assert np.mean([a.labels.mean() for a, _ in drawn]) == pytest.approx(0.05, abs=0.002)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [500, 2000])
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("gap", [0.0, 0.05])
def test_the_intervals_hold_the_truth_as_often_as_they_say(rows, seeds, gap):
    cell = simulate_unbalanced.cell(**HARD, rows=rows, gap=gap, seeds=seeds, studies=1000)
    # 93 to 97 %, and two standard errors of 1,000 studies below and above.
    assert 0.916 <= cell["covered_difference"] <= 0.984
    assert 0.916 <= cell["covered_single"] <= 0.984
    assert cell["clear" if gap == 0 else "as_good"] <= 0.064
