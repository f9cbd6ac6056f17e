"""A number per text."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from feathertune.records import Caveat, NumberMetrics, Scores
from feathertune.tasks.calibration import LIKELIHOOD_OF_NUMBERS
from feathertune.tasks.cards import NUMBER_CARD, NUMBER_CODE
from feathertune.tasks.labels.numbers import NUMBER_LABELS
from feathertune.tasks.linear_models import NUMBER_MODELS
from feathertune.tasks.metrics import score_numbers
from feathertune.tasks.scores import SPEARMAN
from feathertune.tasks.task import Column, Task, Wording


def _is_constant(scores: Scores, counts: Sequence[int]) -> bool:
    assert isinstance(scores, NumberMetrics), "scores of numbers"
    return scores.spearman == scores.pearson == 0


def _far_off(method: str, tests: Sequence[Scores]) -> list[Caveat]:
    """Report predictions that rank well but are further off than the labels' mean."""
    explained = [test.r2 for test in tests if isinstance(test, NumberMetrics)]
    if not explained or fmean(explained) > 0:
        return []
    return [Caveat.of("far_off", method=method, r2=fmean(explained))]


REGRESSION = Task(
    name="regression",
    labels=NUMBER_LABELS,
    problem_type="regression",
    scores=(SPEARMAN,),
    primary=SPEARMAN,
    choose=lambda counts: SPEARMAN,
    record=NumberMetrics,
    probabilities=lambda logits: np.asarray(logits, dtype=np.float64),
    fit_thresholds=lambda labels, numbers: None,
    decide=lambda numbers, thresholds: np.asarray(numbers[:, 0]),
    evaluate=lambda labels, numbers, thresholds: score_numbers(labels, numbers[:, 0]),
    likelihood=LIKELIHOOD_OF_NUMBERS,
    linear=NUMBER_MODELS,
    # The loss, not the rank correlation: an epoch that ranks well with numbers that are far off is not better.
    order=lambda scores: (-scores.loss,),
    is_constant=_is_constant,
    columns=(
        Column("spearman", "Rank correlation"),
        Column("pearson", "Pearson"),
        Column(
            "r2",
            "R2",
            note="R2: explained share of the labels' variance; below 0 if predicting their mean is better.",
        ),
        Column("mae", "MAE", "unit", "MAE and RMSE: mean absolute and root mean squared error, in the labels' unit."),
        Column("rmse", "RMSE", "unit"),
    ),
    panels=frozenset({"numbers", "mean_scores"}),
    card=NUMBER_CARD,
    code=NUMBER_CODE,
    caveats=_far_off,
    words=Wording(
        answer="the labels are numbers here, which are not simply right or wrong",
        constant="the mean of the training labels",
        constant_line="one number for all",
        mislabelled="test rows look mislabelled",
        linear_model="ridge regression",
    ),
)
