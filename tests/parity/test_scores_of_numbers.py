"""The scores of numbers are those of SciPy and scikit-learn, ties included, in a run's record and in a study's rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from feathertune.statistics.inference import seed_interval
from feathertune.tasks.metrics import score_numbers
from feathertune.tasks.scores import SPEARMAN
from measured import spearman


@pytest.mark.parametrize("rounded", [None, 1, 0])
@pytest.mark.parametrize("rows", [4, 37, 1000])
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_scores_are_theirs(rounded, rows, unit):
    rng = np.random.default_rng(rows)
    labels = rng.standard_normal(rows)
    predicted = 0.7 * labels + 0.6 * rng.standard_normal(rows) + 0.2
    if rounded is not None:
        labels, predicted = labels.round(rounded), predicted.round(rounded)
    labels, predicted = unit * labels, unit * predicted
    found = score_numbers(labels, predicted)
    assert found.spearman == pytest.approx(spearmanr(labels, predicted).statistic, abs=1e-12)
    assert found.pearson == pytest.approx(pearsonr(labels, predicted).statistic, abs=1e-12)
    assert found.r2 == pytest.approx(r2_score(labels, predicted))
    assert found.mae == pytest.approx(mean_absolute_error(labels, predicted))
    assert found.rmse == pytest.approx(root_mean_squared_error(labels, predicted))
    assert SPEARMAN.of(found) == pytest.approx(seed_interval(spearman(labels, predicted[None])).mean, abs=1e-11)


def test_the_interval_is_near_that_of_scipys_bootstrap():
    from scipy.stats import bootstrap

    rng = np.random.default_rng(0)
    labels = rng.standard_normal(200)
    predicted = labels + rng.standard_normal(200)
    found = seed_interval(spearman(labels, predicted[None]))
    theirs = bootstrap(
        (labels, predicted),
        lambda y, x: spearmanr(y, x).statistic,
        paired=True,
        vectorized=False,
        n_resamples=999,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.015)
