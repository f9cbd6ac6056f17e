"""Which method is recommended, and the reasons as codes with parameters."""

from __future__ import annotations

import itertools

import pytest

from evidence import (
    BALANCED,
    BASE,
    FULL,
    codes,
    judged,
    make_base,
    make_data,
    make_pair,
    make_row,
    make_run,
    parameters,
    spam,
)
from feathertune.records import Caveat, Reason
from feathertune.study.verdict.verdict import explain_metric
from feathertune.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL


def reason(verdict, code):
    return parameters(verdict.reasons, code)


def test_an_adapter_that_is_as_good_as_full():
    lora = make_row("lora", 0.853, half=0.022, p=0.4)
    verdict = judged(*BASE, make_row("tfidf", 0.8, p=0.01), make_row("probe", 0.81, p=0.01), lora, FULL)
    assert verdict.recommended == "lora"
    assert verdict.reasons == [
        Reason.of(
            "recommended",
            method="lora",
            kind="peft",
            score=0.853,
            low=lora.score_low,
            high=lora.score_high,
            n_test=1000,
            full=0.859,
            margin=0.01,
            against_full="not_clear",
            trained=900,
            trained_share=0.009,
        ),
        Reason.of("untrained", score=0.503, chance=0.5),
    ]


def test_the_probe_wins_where_it_is_within_the_margin():
    verdict = judged(*BASE, make_row("probe", 0.852, p=0.3), make_row("lora", 0.86, p=0.9), FULL)
    assert verdict.recommended == "probe"
    found = reason(verdict, "recommended")
    assert (found["method"], found["kind"], found["score"]) == ("probe", "probe", 0.852)
    assert "trained" not in found
    assert reason(verdict, "scored_highest") == {"method": "lora", "score": 0.86, "margin": 0.01}


def test_tfidf_wins_where_it_is_within_the_margin():
    verdict = judged(*BASE, make_row("tfidf", 0.85, p=0.3), make_row("probe", 0.86), FULL)
    assert verdict.recommended == "tfidf"
    found = reason(verdict, "recommended")
    assert (found["method"], found["kind"], found["score"]) == ("tfidf", "baseline", 0.85)
    assert "trained" not in found
    assert reason(verdict, "scored_highest")["method"] == "probe"


def test_full_that_scored_highest_is_not_named_twice():
    verdict = judged(make_row("lora", 0.853, p=0.4), FULL)
    assert codes(verdict.reasons) == ["recommended"]
    assert reason(verdict, "recommended")["full"] == FULL.score_mean


def test_full_wins_where_nothing_cheaper_is_near():
    verdict = judged(*BASE, make_row("probe", 0.7, p=0.01), make_row("lora", 0.848, p=0.01), FULL)
    assert verdict.recommended == "full"
    assert verdict.reasons[:2] == [
        Reason.of(
            "recommended",
            method="full",
            kind="full",
            score=0.859,
            low=FULL.score_low,
            high=FULL.score_high,
            n_test=1000,
        ),
        Reason.of("nothing_cheaper_close", margin=0.01),
    ]


def test_full_under_options_of_its_own_is_compared_with_full():
    read = make_row("full:read=mean", 0.88, p=0.01, kind="full", trainable_parameters=FULL.trainable_parameters)
    verdict = judged(*BASE, make_row("probe", 0.7, p=0.01), read, FULL)
    assert verdict.recommended == "full:read=mean"
    found = reason(verdict, "recommended")
    assert (found["score"], found["full"], found["against_full"]) == (0.88, 0.859, "better")
    assert "trained" not in found


def test_full_alone_is_not_compared_with_nothing():
    verdict = judged(FULL)
    assert verdict.recommended == "full"
    assert codes(verdict.reasons) == ["recommended"]
    assert not {"full", "against_full", "margin"} & set(reason(verdict, "recommended"))


def test_fewer_trained_parameters_break_the_tie_of_kinds():
    small, large = make_row("ia3", 0.851, trainable_parameters=90), make_row("lora", 0.855)
    assert judged(large, small, FULL).recommended == "ia3"
    assert judged(large, small, FULL, margin=0.001).recommended == "full"


def test_the_margin_itself_is_within_the_margin():
    assert 0.54 - 0.05 > 0.49  # in binary
    assert judged(make_row("lora", 0.49), make_row("full", 0.54), margin=0.05).recommended == "lora"
    assert judged(make_row("lora", 0.85), make_row("full", 0.86)).recommended == "lora"
    assert judged(make_row("lora", 0.8499), make_row("full", 0.86)).recommended == "full"


@pytest.mark.parametrize("unfit", ["majority", "foundation"])
def test_what_was_not_trained_is_never_recommended(unfit):
    assert judged(make_row(unfit, 0.99), make_row("lora", 0.6)).recommended == "lora"


@pytest.mark.parametrize(
    ("p", "score", "against_full"),
    [(0.04, 0.853, "within_margin"), (0.04, 0.87, "better"), (0.05, 0.87, "not_clear")],
)
def test_the_comparison_with_full_follows_p(p, score, against_full):
    found = reason(judged(make_row("lora", score, p=p), FULL), "recommended")
    assert (found["against_full"], found["full"], found["margin"]) == (against_full, 0.859, 0.01)


@pytest.mark.parametrize(
    ("p", "p_equivalent", "score", "against_full"),
    [
        (0.4, 0.012, 0.853, "equivalent"),
        (0.03, 0.0004, 0.853, "equivalent"),
        (0.4, 0.05, 0.853, "not_clear"),
        (0.03, 0.012, 0.863, "better"),
    ],
)
def test_equivalence_is_stated_where_it_holds(p, p_equivalent, score, against_full):
    found = reason(judged(make_row("lora", score, p=p, p_equivalent=p_equivalent), FULL), "recommended")
    assert found["against_full"] == against_full
    assert found.get("p") == (p_equivalent if against_full == "equivalent" else None)


def test_what_is_cheaper_and_may_be_as_good_is_named():
    code = "cheaper_not_clearly_worse"
    rows = [make_row("tfidf", 0.8), make_row("probe", 0.83), make_row("lora", 0.839), FULL]
    pairs = [make_pair("tfidf", "full", p=0.016), make_pair("probe", "full", p=0.017), make_pair("lora", "full")]
    verdict = judged(*rows, pairs=pairs)
    assert verdict.recommended == "full"
    assert codes(verdict.reasons) == ["recommended", "nothing_cheaper_close", code]
    assert reason(verdict, code) == {"method": "lora", "score": 0.839}
    # Three rows are next to the recommended one: 0.016 times 3 is below 0.05, 0.017 times 3 is not.
    clear = [pair.model_copy(update={"p": 0.016}) for pair in pairs]
    assert reason(judged(*rows, pairs=clear), code) is None
    assert reason(judged(*rows, pairs=[*clear[:1], pairs[1], *clear[2:]]), code) == {"method": "probe", "score": 0.83}
    assert reason(judged(*rows[:1], pairs=pairs), code) is None


def test_without_full_the_share_is_that_of_the_model():
    found = reason(judged(make_row("lora", 0.85), runs=[make_run("lora")]), "recommended")
    assert (found["trained"], found["trained_share"]) == (900, 900 / 100_900)
    assert not {"full", "against_full", "margin"} & set(found)
    unknown = reason(judged(make_row("lora", 0.85)), "recommended")
    assert (unknown["trained"], unknown["trained_share"]) == (900, None)


def test_tiny_shares_are_not_rounded():
    lora = make_row("lora", 0.85, p=0.9, trainable_parameters=42)
    assert reason(judged(lora, FULL), "recommended")["trained_share"] == 0.00042


def test_nothing_beats_the_majority():
    tfidf = make_row("tfidf", 0.79)
    verdict = judged(make_row("majority", 0.8), tfidf, make_row("lora", 0.8))
    assert verdict.recommended == "tfidf"
    assert verdict.reasons[0] == Reason.of(
        "not_worth_training",
        method="tfidf",
        kind="baseline",
        score=0.79,
        low=tfidf.score_low,
        high=tfidf.score_high,
        n_test=1000,
        majority=0.8,
    )


@pytest.mark.parametrize(("rows", "expected"), [((), ["nothing_complete"]), (BASE, ["nothing_complete", "untrained"])])
def test_nothing_complete(rows, expected):
    verdict = judged(*rows, runs=[make_run("lora", status="failed", test=None)])
    assert verdict.recommended is None
    assert codes(verdict.reasons) == expected
    assert verdict.caveats == [Caveat.of("failed_runs", runs=["lora-0"], total=1)]


@pytest.mark.parametrize(
    ("task", "data", "chance"),
    [
        (SINGLE_LABEL, make_data(labels=list("abcd"), class_counts={"test": [250] * 4}), 0.25),
        (SINGLE_LABEL, make_data(labels=list("abcd"), class_counts={"test": [500, 500, 0, 0]}), 0.5),
        (SINGLE_LABEL, make_data(labels=list("abcd"), class_counts={}), 0.25),
        (MULTI_LABEL, make_data(task="multi_label"), None),
        (REGRESSION, make_data(task="regression", labels=[], class_counts={}), 0.0),
    ],
)
def test_chance_depends_on_the_task_and_the_classes_that_are_tested(task, data, chance):
    assert reason(judged(*BASE, FULL, data=data, task=task), "untrained") == {"score": 0.503, "chance": chance}


def test_times_and_memory_change_nothing():
    rows = [*BASE, make_row("probe", 0.84, p=0.2), make_row("lora", 0.853, p=0.4), FULL]
    others = [
        row.model_copy(update={"seconds_mean": 1e6 / (i + 1), "memory_mean_bytes": None, "pareto": True})
        for i, row in enumerate(rows)
    ]
    assert judged(*rows) == judged(*others)


# -- the primary metric --------------------------------------------------------


def test_a_metric_that_the_classes_led_to_names_the_largest():
    assert explain_metric(BALANCED, spam()) == [
        Reason.of("ranked_by", metric="balanced_accuracy", chance=0.5, label="ham", share=0.93)
    ]


def test_a_metric_that_was_asked_for_names_no_class():
    assert explain_metric(BALANCED, spam(train=(6, 4))) == [
        Reason.of("ranked_by", metric="balanced_accuracy", chance=0.5)
    ]


@pytest.mark.parametrize(
    ("task", "data"),
    [
        (SINGLE_LABEL, spam()),
        (MULTI_LABEL, make_data(task="multi_label")),
        (REGRESSION, make_data(task="regression", labels=[], class_counts={})),
    ],
)
def test_the_usual_metric_needs_no_reason(task, data):
    assert explain_metric(task, data) == []


def test_the_verdict_on_unbalanced_classes_ends_with_the_metric():
    rows = [make_row("majority", 0.5), make_row("foundation", 0.51), make_row("lora", 0.8)]
    verdict = judged(*rows, data=spam(), task=BALANCED)
    assert codes(verdict.reasons) == ["recommended", "untrained", "ranked_by"]
    assert reason(verdict, "recommended")["n_test"] == 800
    assert verdict.reasons[-1:] == explain_metric(BALANCED, spam())
    assert parameters(verdict.caveats, "few_rows_of_class")["n"] == 40
    assert parameters(verdict.caveats, "dominant_class") is None


# -- several bases --------------------------------------------------------------


TWO = [make_base(name="small", n_parameters=1_000), make_base(name="big", n_parameters=100_000)]


def of_two_bases(scores, pairs, **changes):
    return judged(*(make_row(name, score) for name, score in scores.items()), pairs=pairs, bases=TWO, **changes)


SCORES = {"tfidf": 0.7, "lora@small": 0.80, "full@small": 0.79, "lora@big": 0.86, "full@big": 0.84}


@pytest.mark.parametrize(
    ("base", "method", "between", "clear", "more"),
    [
        # Three pairs were looked at, so p counts three times.
        ({"p": 0.001}, {"p": 0.001}, {"p": 0.001}, (True, True), "base"),
        ({"p": 0.001}, {"p": 0.001}, {"p": 0.02}, (True, True), None),
        ({"p": 0.001}, {"p": 0.03}, {"p": 0.001}, (True, False), "base"),
        ({"p": 0.001}, {"p": 0.001}, {"p": 0.001, "delta": -0.04}, (True, True), "method"),
        ({"p": 0.001, "half": 0.07}, {"p": 0.02}, {"p": 0.001}, (False, False), None),
    ],
)
def test_a_better_base_against_a_better_method(base, method, between, clear, more):
    pairs = [
        make_pair("lora@small", "lora@big", delta=-0.06, **{"half": 0.02, **base}),
        make_pair("lora@big", "full@big", delta=0.02, **{"half": 0.01, **method}),
        make_pair("full@big", "lora@small", **{"delta": 0.04, "half": 0.02, **between}),
        make_pair("full@small", "lora@big", delta=-0.07),
    ]
    found = reason(of_two_bases(SCORES, pairs), "base_or_method")
    assert (found["best"], found["base"]["from"], found["method"]["from"]) == ("lora@big", "lora@small", "full@big")
    assert (found["base"]["gain"], found["base"]["low"]) == (0.06, pytest.approx(0.06 - base.get("half", 0.02)))
    assert found["base"]["p"] == pytest.approx(3 * base["p"])
    assert (found["base"]["clear"], found["method"]["clear"]) == clear
    assert found["more"] == more


def test_nothing_is_said_of_bases_where_nothing_differs_in_one_alone():
    alone = {"tfidf": 0.7, "lora@small": 0.8, "full@big": 0.9}
    assert reason(of_two_bases(alone, [make_pair("lora@small", "full@big")]), "base_or_method") is None
    assert reason(judged(make_row("lora", 0.8), FULL), "base_or_method") is None


def test_a_smaller_base_is_cheaper_by_any_method():
    pairs = [make_pair(a, b) for a, b in itertools.combinations(SCORES, 2)]
    close = {**SCORES, "full@small": 0.855}
    assert of_two_bases(close, pairs).recommended == "full@small"
    assert of_two_bases({**close, "tfidf": 0.851}, pairs).recommended == "tfidf"


def test_full_fine_tuning_is_that_of_the_same_base():
    rows = [make_row("lora@big", 0.86, p=0.4), make_row("full@big", 0.865), make_row("full@small", 0.5)]
    verdict = judged(
        *rows, bases=TWO, pairs=[make_pair(a.method, b.method) for a, b in itertools.combinations(rows, 2)]
    )
    assert (verdict.recommended, reason(verdict, "recommended")["full"]) == ("lora@big", 0.865)
    assert reason(verdict, "scored_highest") is None


def test_untrained_heads_of_each_base():
    rows = [make_row("foundation@small", 0.49), make_row("foundation@big", 0.55), make_row("tfidf", 0.8)]
    found = reason(judged(*rows, bases=TWO), "untrained")
    assert found == {"scores": {"small": 0.49, "big": 0.55}, "chance": 0.5}
