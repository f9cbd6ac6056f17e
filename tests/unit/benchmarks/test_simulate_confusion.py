"""Coverage of the intervals of macro F1 and Matthews correlation in simulated studies; the benchmark has more."""

from __future__ import annotations

import numpy as np
import pytest
import simulate_confusion
import simulate_unbalanced
from sklearn.metrics import f1_score, matthews_corrcoef

SCORES = {"macro_f1": lambda y, x: f1_score(y, x, average="macro"), "mcc": matthews_corrcoef}


@pytest.mark.parametrize("metric", SCORES)
def test_the_true_score_is_that_of_very_many_rows(metric):
    rng, shares, recalls = np.random.default_rng(0), (0.6, 0.3, 0.1), np.array([0.9, 0.7, 0.8])
    labels = np.repeat([0, 1, 2], [60_000, 30_000, 10_000])
    predicted = simulate_confusion.confused(rng.random((1, len(labels))) < recalls[labels], labels)[0]
    truth = simulate_confusion.truth(metric, shares, recalls[None])
    assert SCORES[metric](labels, predicted) == pytest.approx(truth, abs=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("metric", SCORES)
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("gap", [0.0, 0.05])
def test_the_intervals_hold_the_truth_as_often_as_they_say(metric, seeds, gap):
    case = {"shares": simulate_unbalanced.TWO, "recalls": simulate_unbalanced.HARD, "rows": 2000}
    cell = simulate_confusion.cell(metric, **case, gap=gap, seeds=seeds, studies=1000)
    # 93 to 97 %, and two standard errors of 1,000 studies below and above.
    assert 0.916 <= cell["covered_difference"] <= 0.984
    assert 0.916 <= cell["covered_single"] <= 0.984
    assert cell["clear" if gap == 0 else "as_good"] <= 0.064
