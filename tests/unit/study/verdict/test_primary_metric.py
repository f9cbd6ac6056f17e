"""Which score leads, why, and what speaks against it."""

from __future__ import annotations

import pytest

from feathertune.errors import ConfigError
from feathertune.study.verdict.primary_metric import choose_metric, metric_caveats, why_metric
from unit.study.verdict.test_verdict import caveat, judged, make_data, make_pair, make_row


def spam(train=(930, 70), test=(760, 40), **changes):
    counts = {"train": list(train), "test": list(test)}
    return make_data(labels=["ham", "spam"], class_counts=counts, n_test=sum(test), **changes)


@pytest.mark.parametrize(
    ("wanted", "counts", "expected"),
    [
        ("auto", [930, 70], "balanced_accuracy"),
        ("auto", [700, 300], "accuracy"),
        ("auto", [701, 299], "balanced_accuracy"),
        ("auto", [100, 90, 80], "accuracy"),
        ("accuracy", [930, 70], "accuracy"),
        ("balanced_accuracy", [500, 500], "balanced_accuracy"),
    ],
)
def test_the_training_rows_decide_where_nobody_does(wanted, counts, expected):
    assert choose_metric(wanted, "single_label", counts) == expected


def test_sets_of_labels_have_no_recall():
    assert choose_metric("auto", "multi_label", [990, 3]) == "accuracy"
    with pytest.raises(ConfigError, match=r"a text may have several labels.*Expected accuracy or auto"):
        choose_metric("balanced_accuracy", "multi_label", [10, 10])


def test_why_is_said_in_a_sentence():
    assert why_metric("balanced_accuracy", spam()) == [
        "93.0 % of the training rows are 'ham', so balanced accuracy leads (the mean of the classes' recalls): always "
        "the same answer gives 50.0 %."
    ]
    assert why_metric("balanced_accuracy", spam(train=(6, 4)))[0].startswith("Balanced accuracy leads (the mean")
    assert why_metric("accuracy", spam()) == []


def test_the_verdict_names_the_score_and_says_why():
    rows = [
        make_row("majority", 0.5, score="balanced_accuracy"),
        make_row("foundation", 0.51, score="balanced_accuracy"),
        make_row("lora", 0.8, score="balanced_accuracy"),
    ]
    verdict = judged(*rows, data=spam())
    assert verdict.text.startswith("Take lora: 80.0 % balanced accuracy (78.0 to 82.0) on these 800 test rows")
    assert verdict.text.endswith(why_metric("balanced_accuracy", spam())[0])
    assert "chance is" not in verdict.text, "it is said with the score"
    assert caveat(verdict, "Only 40 of the 800 test rows are 'spam'")
    assert not caveat(verdict, "accuracy alone says little")


def test_few_rows_of_a_class_are_a_caveat():
    # Wilson's interval of 6 of 12 goes 24.6 points either way, that of 46 of 92 goes 10.01 and of 47 of 94 goes 9.9.
    assert metric_caveats("balanced_accuracy", spam(test=(488, 12))) == [
        "Only 12 of the 500 test rows are 'spam': its recall, which counts as much as that of any other class, may be "
        "off by 24.6 points either way."
    ]
    assert metric_caveats("balanced_accuracy", spam(test=(900, 92)))
    assert not metric_caveats("balanced_accuracy", spam(test=(900, 94)))
    counts = {"train": [800, 50, 50, 50], "test": [700, 5, 9, 0]}
    several = make_data(labels=list("abcd"), class_counts=counts, n_test=714)
    assert metric_caveats("balanced_accuracy", several) == [
        "2 of 4 classes have few test rows, 'b' 5: its recall, which counts as much as that of any other class, may be "
        "off by 32.6 points either way.",
        "'d' has no test row: the score is of the other classes.",
    ]


def test_accuracy_that_leads_all_the_same_is_a_caveat():
    (found,) = metric_caveats("accuracy", spam())
    assert found.startswith("95.0 % of the test rows are 'ham': accuracy alone says little here")
    assert "(--metric balanced_accuracy)" in found


def test_more_rows_are_asked_for_in_the_same_shares():
    rows = [make_row(name, 0.85, score="balanced_accuracy") for name in ("lora", "ia3")]
    verdict = judged(*rows, data=spam(), pairs=[make_pair("ia3", "lora", half=0.04, rows_half=0.03)])
    assert caveat(verdict, "about 7,200 rows with the same shares of the classes are needed")


def test_a_label_that_runs_to_the_left_turns_nothing_beside_it():
    counts = {"train": [930, 70], "test": [760, 40]}
    data = make_data(labels=["عادي", "مزعج"], class_counts=counts, n_test=800)
    assert "'\u2068عادي\u2069'" in why_metric("balanced_accuracy", data)[0]
    assert "'\u2068مزعج\u2069'" in metric_caveats("balanced_accuracy", data)[0]
