"""What speaks against relying on the recommendation, as codes with parameters."""

from __future__ import annotations

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
from feathertune.records import Caveat, NumberMetrics, Reading
from feathertune.study.verdict.caveats import RISE, failed_runs, training_state
from feathertune.tasks import MULTI_LABEL, REGRESSION

LORA = make_row("lora", 0.85)
# Losses of five epochs; the lowest validation loss is that of the second.
TRAIN = [0.6, 0.4, 0.3, 0.2, 0.1]
RISING = [0.5, 0.4, 0.45, 0.5, 0.6]
FALLING = [0.5, 0.45, 0.42, 0.41, 0.4]


def caveat(verdict, code):
    return parameters(verdict.caveats, code)


def trained(seed=0, *, best_epoch=3, validation=RISING, train=TRAIN, **changes):
    losses = {"train_losses": list(train), "validation_losses": list(validation)}
    return make_run("lora", seed, best_epoch=best_epoch, **losses, **changes)


def test_a_clean_study_of_one_method_has_no_caveats():
    assert judged(LORA, runs=[make_run("lora")]).caveats == []


def test_one_seed_is_stated_for_trained_methods_only():
    rows = [make_row("probe", 0.7, n_seeds=1), make_row("lora", 0.85, n_seeds=1), FULL]
    assert caveat(judged(*rows), "one_seed") == {"methods": ["lora"]}
    assert caveat(judged(make_row("probe", 0.85, n_seeds=1)), "one_seed") is None


def test_the_most_important_caveats_come_first():
    rows = [make_row("majority", 0.9), make_row("lora", 0.85, n_seeds=1), make_row("ia3", 0.855, n_seeds=1)]
    runs = [make_run("lora"), make_run("full", status="failed", error="it broke")]
    pairs = [make_pair("ia3", "lora", delta=0.005, half=0.04, rows_half=0.03)]
    found = codes(judged(*rows, runs=runs, pairs=pairs).caveats)
    assert found == ["not_above_majority", "failed_runs", "too_few_test_rows", "one_seed", "selected_on_test"]


# -- rows and seeds ------------------------------------------------------------


def test_too_few_rows_by_the_difference_of_the_pair():
    rows = [LORA, make_row("ia3", 0.855)]
    verdict = judged(*rows, pairs=[make_pair("ia3", "lora", delta=0.005, half=0.04, rows_half=0.03)])
    found = caveat(verdict, "too_few_test_rows")
    # 1,000 rows x (3 / 1)^2
    assert found == {
        "method": "lora",
        "rival": "ia3",
        "difference": -0.005,
        "half_width": pytest.approx(0.04),
        "half_width_of_rows": pytest.approx(0.03),
        "margin": 0.01,
        "n_test": 1000,
        "n_needed": 9000,
        "seeds_first": False,
    }
    assert caveat(verdict, "too_few_seeds") is None
    assert caveat(judged(*rows, pairs=[make_pair("ia3", "lora", half=0.01)]), "too_few_test_rows") is None
    assert caveat(judged(*rows), "too_few_test_rows") is None


def test_the_difference_is_that_of_the_recommended_method_in_either_order():
    rows = [LORA, make_row("ia3", 0.855)]
    for pair in (make_pair("ia3", "lora", delta=0.005, half=0.04), make_pair("lora", "ia3", delta=-0.005, half=0.04)):
        assert caveat(judged(*rows, pairs=[pair]), "too_few_test_rows")["difference"] == -0.005


def test_too_few_seeds_where_the_rows_would_be_enough():
    rows, pair = [make_row("lora", 0.853), FULL], make_pair("lora", "full", half=0.03, rows_half=0.009)
    verdict = judged(*rows, pairs=[pair])
    found = caveat(verdict, "too_few_seeds")
    assert (found["method"], found["rival"], found["n_test"], found["margin"]) == ("lora", "full", 1000, 0.01)
    assert (found["half_width"], found["half_width_of_rows"]) == pytest.approx((0.03, 0.009))
    assert "n_needed" not in found
    assert caveat(verdict, "too_few_test_rows") is None


def test_more_seeds_come_first_where_most_of_the_width_is_theirs():
    """Few labels, drawn for each seed: twice the rows would hardly be seen."""
    rows, pair = [LORA, make_row("ia3", 0.855)], make_pair("ia3", "lora", half=0.079, rows_half=0.013)
    found = caveat(judged(*rows, pairs=[pair]), "too_few_test_rows")
    assert (found["seeds_first"], found["n_needed"]) == (True, 1700)
    assert found["half_width"] == pytest.approx(0.079)
    by_rows = judged(*rows, pairs=[make_pair("ia3", "lora", half=0.04, rows_half=0.03)])
    assert caveat(by_rows, "too_few_test_rows")["seeds_first"] is False


def test_more_rows_of_unbalanced_classes():
    rows = [make_row(name, 0.85) for name in ("lora", "ia3")]
    pair = make_pair("ia3", "lora", half=0.04, rows_half=0.03)
    found = caveat(judged(*rows, data=spam(), pairs=[pair], task=BALANCED), "too_few_test_rows")
    assert (found["n_test"], found["n_needed"]) == (800, 7200)


@pytest.mark.parametrize("code", ["too_few_test_rows", "too_few_seeds"])
def test_enough_rows_where_the_difference_is_larger_than_its_width(code):
    rows = [make_row("lora", 0.90, p=0.001), FULL]
    assert caveat(judged(*rows, pairs=[make_pair("lora", "full", delta=0.041, half=0.03)]), code) is None


@pytest.mark.parametrize("code", ["too_few_test_rows", "too_few_seeds"])
def test_a_margin_of_zero_asks_for_no_number_of_rows(code):
    pair = make_pair("lora", "full", half=0.03)
    assert caveat(judged(make_row("lora", 0.859, p=0.4), FULL, pairs=[pair], margin=0), code) is None


# -- what was learned ----------------------------------------------------------


def test_a_method_that_is_not_above_the_majority():
    rows = [make_row("majority", 0.6), make_row("lora", 0.6, p=0.01), FULL]
    assert caveat(judged(*rows), "not_above_majority") == {"methods": {"lora": 0.6}, "majority": 0.6}
    rows[1] = make_row("lora", 0.61, p=0.01)
    assert caveat(judged(*rows), "not_above_majority") is None


def test_one_class_only():
    data = make_data(class_counts={"test": [400, 600]})
    runs = [make_run("lora", 0, accuracy=0.4, mcc=0.0), make_run("lora", 1), make_run("full")]
    rows = [make_row("majority", 0.6), make_row("lora", 0.5, p=0.01), FULL]
    verdict = judged(*rows, data=data, runs=runs)
    assert caveat(verdict, "learned_nothing") == {"methods": ["lora"], "n": 1, "total": 2}
    assert caveat(verdict, "not_above_majority") is None, "one caveat for one thing"
    runs[0] = make_run("lora", 0, accuracy=0.41, mcc=0.0)
    verdict = judged(*rows, data=data, runs=runs)
    assert codes(verdict.caveats)[0] == "not_above_majority"
    assert caveat(verdict, "learned_nothing") is None


def test_runs_of_all_methods_that_learned_nothing_are_added_up():
    data = make_data(class_counts={"test": [400, 600]})
    runs = [make_run(method, seed, accuracy=0.6, mcc=0.0) for method, seed in (("lora", 0), ("ia3", 0), ("ia3", 1))]
    rows = [make_row("lora", 0.6), make_row("ia3", 0.6), FULL]
    found = caveat(judged(*rows, data=data, runs=[*runs, make_run("lora", 1)]), "learned_nothing")
    assert (set(found["methods"]), found["n"], found["total"]) == ({"lora", "ia3"}, 3, 4)


def numbers(**changes):
    values = {"spearman": 0.8, "pearson": 0.8, "r2": 0.6, "mae": 1.0, "rmse": 1.5, "n": 1000}
    return NumberMetrics(**{**values, **changes})


NUMBERS = {"task": REGRESSION, "data": make_data(task="regression", labels=[], class_counts={})}


def test_one_number_only():
    runs = [make_run("lora", 0, test=numbers(spearman=0.0, pearson=0.0)), make_run("lora", 1, test=numbers())]
    found = judged(LORA, runs=runs, **NUMBERS)
    assert caveat(found, "learned_nothing") == {"methods": ["lora"], "n": 1, "total": 2}
    assert caveat(judged(LORA, runs=runs[1:], **NUMBERS), "learned_nothing") is None


def test_numbers_that_are_further_off_than_their_mean():
    runs = [make_run("lora", 0, test=numbers(r2=-0.6)), make_run("lora", 1, test=numbers(r2=0.2))]
    found = caveat(judged(LORA, runs=runs, **NUMBERS), "far_off")
    assert found == {"method": "lora", "r2": pytest.approx(-0.2)}
    assert caveat(judged(LORA, runs=runs[1:], **NUMBERS), "far_off") is None
    others = [make_run("full", test=numbers(r2=-0.6)), runs[1]]
    assert caveat(judged(LORA, runs=others, **NUMBERS), "far_off") is None, "only the recommended method counts"


# -- the end of the training ---------------------------------------------------


@pytest.mark.parametrize(
    ("best_epoch", "validation", "state"),
    [
        (5, FALLING, "still_improving"),
        (5, RISING, "overconfident"),
        (2, RISING, "overfits"),
        (2, FALLING, None),
    ],
)
def test_a_training_ends_in_one_state(best_epoch, validation, state):
    run = trained(best_epoch=best_epoch, validation=validation)
    assert training_state(run) == state
    found = judged(LORA, runs=[run]).caveats
    assert codes(found) == ([] if state is None else [state])


def test_a_state_that_needs_no_losses():
    assert training_state(make_run("lora", best_epoch=5)) == "still_improving"
    assert training_state(make_run("lora", best_epoch=4)) is None


def test_the_last_planned_epoch_is_not_the_last_one_of_a_training_that_stopped():
    assert training_state(make_run("lora", epochs=4, best_epoch=4)) is None
    assert training_state(make_run("lora", epochs=4, best_epoch=4, hyperparameters={})) == "still_improving"
    assert training_state(make_run("probe", epochs=0, best_epoch=0, hyperparameters={})) is None


def test_without_validation_rows_the_last_epoch_proves_nothing():
    run = make_run("lora", best_epoch=5)
    assert training_state(run, validates=False) is None
    assert judged(LORA, runs=[run], data=make_data(n_validation=0)).caveats == []


@pytest.mark.parametrize(("best_epoch", "state"), [(3, "overfits"), (5, "overconfident")])
def test_the_validation_loss_rises_by_more_than_a_tenth(best_epoch, state):
    little = [0.5, 0.4, 0.41, 0.42, 0.4 * (1 + RISE)]
    more = [*little[:-1], little[-1] + 0.001]
    usual = training_state(trained(best_epoch=best_epoch, validation=FALLING))
    assert training_state(trained(best_epoch=best_epoch, validation=little)) == usual
    assert training_state(trained(best_epoch=best_epoch, validation=more)) == state


@pytest.mark.parametrize(("best_epoch", "state"), [(3, None), (5, "still_improving")])
def test_a_training_that_broke_does_not_overfit(best_epoch, state):
    """Both losses rise."""
    run = trained(best_epoch=best_epoch, train=[0.6, 0.4, 0.5, 0.7, 0.9])
    assert training_state(run) == state


@pytest.mark.parametrize(("best_epoch", "code"), [(3, "overfits"), (5, "overconfident")])
def test_the_losses_are_those_of_the_lowest_epoch_and_the_last(best_epoch, code):
    runs = [trained(0, best_epoch=best_epoch), trained(1, best_epoch=4, validation=FALLING)]
    assert judged(LORA, runs=runs).caveats == [
        Caveat.of(
            code,
            method="lora",
            n=1,
            total=2,
            epoch=5,
            from_epoch=2,
            validation_losses=[0.4, 0.6],
            train_losses=[0.4, 0.1],
        )
    ]


def test_still_improving_needs_no_losses():
    runs = [make_run("lora", 0, best_epoch=5), make_run("lora", 1, best_epoch=4)]
    assert judged(LORA, runs=runs).caveats == [Caveat.of("still_improving", method="lora", n=1, total=2, epoch=5)]
    assert judged(LORA, runs=runs[1:]).caveats == []


@pytest.mark.parametrize("most", ["still_improving", "overconfident", "overfits"])
def test_the_most_frequent_state_over_the_runs_is_stated_once(most):
    made = {
        "still_improving": {"best_epoch": 5, "validation": FALLING},
        "overconfident": {"best_epoch": 5},
        "overfits": {"best_epoch": 2},
    }
    states = [*made, most, None]  # one run of each, one more of the most frequent one, one without
    runs = [trained(seed, **made.get(state, {"validation": FALLING})) for seed, state in enumerate(states)]
    assert [training_state(run) for run in runs] == states
    found = judged(LORA, runs=runs).caveats
    assert codes(found) == [most]
    assert (found[0].parameters["n"], found[0].parameters["total"]) == (2, 5)


def test_runs_of_other_methods_and_failed_runs_have_no_part_in_it():
    runs = [trained(0, validation=FALLING), make_run("full", best_epoch=5), trained(1, best_epoch=5, status="failed")]
    assert codes(judged(LORA, runs=runs).caveats) == ["failed_runs"]


# -- the data ------------------------------------------------------------------


def test_truncated_texts():
    long = {"truncated_fraction": 0.43}
    assert caveat(judged(FULL, bases=[make_base(**long)]), "truncated") == {"share": 0.43, "unread": None}
    partly = make_base(**long, unread_fraction=0.3)
    assert caveat(judged(FULL, bases=[partly]), "truncated") == {"share": 0.43, "unread": 0.3}
    windows = make_data(reading=Reading(long="windows", stride=32, max_windows=9))
    whole = make_base(**long, unread_fraction=0.0)
    assert caveat(judged(FULL, data=windows, bases=[whole]), "truncated") is None, "all of it was read"
    assert caveat(judged(FULL, bases=[make_base(truncated_fraction=0.2)]), "truncated") is None
    two = judged(FULL, bases=[whole, make_base(name="tiny", **long)])
    assert caveat(two, "truncated") == {"share": 0.43, "unread": None, "base": "tiny"}


@pytest.mark.parametrize(("task", "data"), [(None, {}), (MULTI_LABEL, {"task": "multi_label"})])
def test_labels_that_are_likely_wrong(task, data):
    task = {} if task is None else {"task": task}
    assert caveat(judged(FULL, data=make_data(**data), n_mislabelled=6, **task), "mislabelled") == {"n": 6}
    assert caveat(judged(FULL, data=make_data(**data), n_mislabelled=5, **task), "mislabelled") is None


def test_a_source_that_repeats_its_texts():
    assert caveat(judged(FULL, data=make_data(overlap_removed=11)), "repeated_texts") == {"n": 11}
    assert caveat(judged(FULL, data=make_data(overlap_removed=10)), "repeated_texts") is None


def test_caveats_of_the_primary_score_are_among_them():
    data = make_data(class_counts={"test": [200, 800]})
    assert caveat(judged(FULL, data=data), "dominant_class") == {"label": "pos", "share": 0.8}
    assert caveat(judged(FULL, data=make_data(class_counts={})), "dominant_class") is None
    rare = make_data(class_counts={"test": [12, 988]})
    assert codes(judged(FULL, data=rare, task=BALANCED).caveats) == ["few_rows_of_class"]


# -- the study -----------------------------------------------------------------


def test_failed_runs_are_named():
    runs = [
        make_run("full"),
        make_run("lora", 0, status="failed", test=None),
        make_run("lora", 1, status="failed"),
    ]
    assert caveat(judged(FULL, runs=runs), "failed_runs") == {"runs": ["lora-0", "lora-1"], "total": 3}
    assert failed_runs(runs[:1]) == []


def test_a_winner_among_several_is_slightly_optimistic():
    assert caveat(judged(make_row("lora", 0.86, p=0.9), FULL), "selected_on_test") == {"method": "lora"}
    assert caveat(judged(*BASE, FULL), "selected_on_test") is None
