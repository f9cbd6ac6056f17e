"""Which score ranks methods, how it is computed, and what it hides."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from evidence import make_data, spam
from feathertune.errors import ConfigError
from feathertune.records import Caveat, Metrics
from feathertune.tasks import MULTI_LABEL, REGRESSION, SCORES, SINGLE_LABEL, TASKS
from feathertune.tasks.scores import (
    ACCURACY,
    BALANCED_ACCURACY,
    MACRO_F1,
    MCC,
    SPEARMAN,
    SUBSET_ACCURACY,
    recall_margin,
)


@pytest.mark.parametrize(
    ("wanted", "counts", "expected"),
    [
        ("auto", [930, 70], "balanced_accuracy"),
        ("auto", [700, 300], "accuracy"),
        ("auto", [701, 299], "balanced_accuracy"),
        ("auto", [100, 90, 80], "accuracy"),
        ("accuracy", [930, 70], "accuracy"),
        ("balanced_accuracy", [500, 500], "balanced_accuracy"),
        ("macro_f1", [500, 500], "macro_f1"),
        ("mcc", [500, 500], "mcc"),
    ],
)
def test_the_training_rows_decide_where_nobody_does(wanted, counts, expected):
    task = SINGLE_LABEL.ranked_by(wanted, counts)
    assert task.primary.name == expected
    assert (task is SINGLE_LABEL) == (expected == "accuracy")


def test_the_primary_metric_of_sets_and_numbers_does_not_depend_on_the_rows():
    assert MULTI_LABEL.ranked_by("auto", [990, 3]) is MULTI_LABEL.ranked_by("accuracy") is MULTI_LABEL
    assert REGRESSION.ranked_by("auto") is REGRESSION.ranked_by("spearman") is REGRESSION


@pytest.mark.parametrize(
    ("task", "wanted", "possible"),
    [
        (MULTI_LABEL, "balanced_accuracy", "auto, accuracy, macro_f1, mcc"),
        (MULTI_LABEL, "spearman", "auto, accuracy, macro_f1, mcc"),
        (REGRESSION, "accuracy", "auto, spearman"),
        (REGRESSION, "balanced_accuracy", "auto, spearman"),
        (SINGLE_LABEL, "spearman", "auto, accuracy, balanced_accuracy, macro_f1, mcc"),
    ],
)
def test_a_score_of_another_task_is_refused(task, wanted, possible):
    with pytest.raises(ConfigError, match=rf"study\.metric is {wanted}.*{task.name}.*: {possible}\.$"):
        task.ranked_by(wanted, [5, 5])


def test_names_lead_to_scores():
    assert set(SCORES.values()) == {ACCURACY, BALANCED_ACCURACY, MACRO_F1, MCC, SPEARMAN}
    for task in TASKS.values():
        assert task.primary is task.scores[0]
        for score in task.scores:
            assert task.score_named(score.name) is score
            assert SCORES[score.name].format is score.format, "a name has one format in all tasks"


def test_a_score_is_read_from_the_scores_of_a_run():
    found = Metrics(accuracy=0.9, balanced_accuracy=0.7, macro_f1=0.5, mcc=0.1, log_loss=0.3, ece=0.1, n=10)
    assert (ACCURACY.of(found), BALANCED_ACCURACY.of(found)) == (0.9, 0.7)


def test_scores_are_computed_as_scikit_learn_and_scipy_do():
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 80, p=[0.7, 0.15, 0.1, 0.05])
    predicted = np.where(rng.random(80) < 0.6, labels, rng.integers(0, 4, 80))
    assert ACCURACY.compute(labels, predicted) == pytest.approx(accuracy_score(labels, predicted))
    assert BALANCED_ACCURACY.compute(labels, predicted) == pytest.approx(balanced_accuracy_score(labels, predicted))
    sets = rng.integers(0, 2, (50, 3))
    given = np.where(rng.random((50, 3)) < 0.8, sets, 1 - sets)
    assert SUBSET_ACCURACY.compute(sets, given) == pytest.approx(accuracy_score(sets, given))
    numbers = rng.normal(size=60).round(1)
    guessed = numbers + rng.normal(size=60).round(1)
    assert SPEARMAN.compute(numbers, guessed) == pytest.approx(spearmanr(numbers, guessed).statistic, abs=1e-9)


@pytest.mark.parametrize(
    ("score", "chance"),
    [(ACCURACY, 0.25), (BALANCED_ACCURACY, 0.25), (MCC, 0.0), (SPEARMAN, 0.0), (SUBSET_ACCURACY, None)],
)
def test_chance_of_four_classes(score, chance):
    assert score.chance(4) == chance


# -- caveats -------------------------------------------------------------------


def test_a_dominant_class_makes_accuracy_misleading():
    assert ACCURACY.caveats(spam()) == [Caveat.of("dominant_class", label="ham", share=0.95)]
    assert ACCURACY.caveats(make_data(class_counts={"test": [200, 800]})) == [
        Caveat.of("dominant_class", label="pos", share=0.8)
    ]
    assert ACCURACY.caveats(make_data(class_counts={"test": [300, 700]})) == []
    assert ACCURACY.caveats(make_data(class_counts={})) == []


def test_half_of_an_interval():
    # Wilson's interval of 6 of 12 goes 24.6 points either way, that of 46 of 92 goes 10.01 and of 47 of 94 goes 9.9.
    assert recall_margin(12) == pytest.approx(0.246, abs=5e-4)
    assert recall_margin(92) == pytest.approx(0.1001, abs=5e-5)
    assert recall_margin(94) == pytest.approx(0.099, abs=5e-4)


def test_few_rows_of_a_class_make_its_recall_badly_known():
    assert BALANCED_ACCURACY.caveats(spam(test=(488, 12))) == [
        Caveat.of("few_rows_of_class", label="spam", n=12, margin=recall_margin(12), n_classes=1)
    ]
    assert BALANCED_ACCURACY.caveats(spam(test=(900, 92)))
    assert BALANCED_ACCURACY.caveats(spam(test=(900, 94))) == []
    assert BALANCED_ACCURACY.caveats(make_data(class_counts={})) == []


def test_of_several_classes_the_rarest_is_named_and_those_without_a_row():
    counts = {"train": [800, 50, 50, 50], "test": [700, 5, 9, 0]}
    several = make_data(labels=list("abcd"), class_counts=counts, n_test=714)
    assert BALANCED_ACCURACY.caveats(several) == [
        Caveat.of("few_rows_of_class", label="b", n=5, margin=pytest.approx(0.326, abs=5e-4), n_classes=2),
        Caveat.of("class_without_test_rows", label="d", n_classes=1),
    ]
    missing = make_data(labels=list("abcd"), class_counts={"test": [500, 500, 0, 0]})
    assert BALANCED_ACCURACY.caveats(missing) == [Caveat.of("class_without_test_rows", label="c", n_classes=2)]


@pytest.mark.parametrize("score", [SUBSET_ACCURACY, SPEARMAN])
def test_scores_of_sets_and_numbers_hide_no_class(score):
    assert score.caveats(spam()) == []
