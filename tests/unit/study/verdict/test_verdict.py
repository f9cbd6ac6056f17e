from __future__ import annotations

import pytest

from feathertune.records import DataRecord, Metrics, PairRecord, RunRecord, Seconds, SummaryRow
from feathertune.study.verdict.verdict import judge

KINDS = {
    "majority": "baseline",
    "foundation": "baseline",
    "tfidf": "baseline",
    "probe": "probe",
    "full": "full",
}
TRAINED = {"majority": 0, "foundation": 0, "tfidf": 5000, "probe": 800, "full": 100_000}


def make_row(method, accuracy, *, half=0.02, p=None, delta_half=0.02, **changes):
    values = {
        "method": method,
        "kind": KINDS.get(method, "peft"),
        "n_seeds": 3,
        "score_mean": accuracy,
        "score_sd": 0.004,
        "score_low": accuracy - half,
        "score_high": accuracy + half,
        "seconds_mean": 10.0,
        "memory_mean_bytes": 1e9,
        "trainable_parameters": TRAINED.get(method, 900),
        "adapter_bytes": 1,
    }
    if p is not None:
        values |= {
            "delta_vs_full": 0.0,
            "delta_low": -delta_half,
            "delta_high": delta_half,
            "p_vs_full_holm": p,
        }
    return SummaryRow(**{**values, **changes})


def make_data(**changes):
    values = {
        "source": "toy",
        "fingerprint": "0",
        "labels": ["neg", "pos"],
        "n_train": 1000,
        "n_validation": 100,
        "n_test": 1000,
        "class_counts": {"test": [500, 500]},
        "max_length": 128,
        "truncated_fraction": 0.1,
        "duplicates_removed": 0,
        "overlap_removed": 0,
    }
    return DataRecord(**{**values, **changes})


def make_run(method, seed=0, *, accuracy=0.85, mcc=0.7, epochs=5, best_epoch=3, **changes):
    values = {
        "id": f"{method}-{seed}",
        "method": method,
        "kind": KINDS.get(method, "peft"),
        "seed": seed,
        "status": "complete",
        "test": Metrics(accuracy=accuracy, macro_f1=0.8, mcc=mcc, log_loss=0.4, ece=0.05, n=1000),
        "total_parameters": 100_900,
        "seconds": Seconds(total=1.0),
        "epochs": epochs,
        "best_epoch": best_epoch,
        "hyperparameters": {"epochs": 5},
    }
    return RunRecord(**{**values, **changes})


def make_pair(a, b, *, delta=0.0, half=0.02, rows_half=None, p=0.13, p_holm=0.4):
    rows_half = half if rows_half is None else rows_half
    return PairRecord(
        a=a,
        b=b,
        delta=delta,
        low=delta - half,
        high=delta + half,
        rows_low=delta - rows_half,
        rows_high=delta + rows_half,
        p=p,
        p_holm=p_holm,
    )


def judged(*rows, data=None, runs=(), pairs=(), margin=0.01, n_suspects=0):
    return judge(list(rows), data or make_data(), list(runs), list(pairs), margin=margin, n_suspects=n_suspects)


def caveat(verdict, words):
    return [line for line in verdict.caveats if words in line]


BASE = (make_row("majority", 0.5), make_row("foundation", 0.503, n_seeds=5))
FULL = make_row("full", 0.859)


# -- the recommendation --------------------------------------------------------


def test_an_adapter_that_is_as_good_as_full():
    lora = make_row("lora", 0.853, half=0.022, p=0.4)
    verdict = judged(*BASE, make_row("tfidf", 0.8, p=0.01), make_row("probe", 0.81, p=0.01), lora, FULL)
    assert verdict.recommended == "lora"
    assert verdict.text == (
        "Take lora: 85.3 % accuracy (83.1 to 87.5) on these 1,000 test rows, not clearly different from full "
        "fine-tuning (85.9 %), with 0.9 % of its parameters trained. Before any training, the foundation "
        "model with a new head stands at 50.3 %; chance is 50.0 %."
    )


def test_the_probe_wins_where_it_is_within_the_margin():
    verdict = judged(*BASE, make_row("probe", 0.852, p=0.3), make_row("lora", 0.86, p=0.9), FULL)
    assert verdict.recommended == "probe"
    assert verdict.text.startswith("The frozen features with logistic regression (probe) already do it: 85.2 %")
    assert "lora scored highest (86.0 %), by no more than the margin of 1.0 points, and costs more." in verdict.text


def test_tfidf_wins_where_it_is_within_the_margin():
    verdict = judged(*BASE, make_row("tfidf", 0.85, p=0.3), make_row("probe", 0.86), FULL)
    assert verdict.recommended == "tfidf"
    assert verdict.text.startswith("You need no transformer: tf-idf with logistic regression reaches 85.0 %")


def test_full_wins_where_nothing_cheaper_is_near():
    verdict = judged(*BASE, make_row("probe", 0.7, p=0.01), make_row("lora", 0.848, p=0.01), FULL)
    assert verdict.recommended == "full"
    assert verdict.text.startswith("Take full fine-tuning: 85.9 %")
    assert "Nothing cheaper came within 1.0 points of it." in verdict.text


def test_full_under_options_of_its_own_is_compared_with_full():
    read = make_row("full:read=mean", 0.88, p=0.01, kind="full", trainable_parameters=FULL.trainable_parameters)
    verdict = judged(*BASE, make_row("probe", 0.7, p=0.01), read, FULL)
    assert verdict.recommended == "full:read=mean"
    assert verdict.text.startswith("Take full:read=mean: 88.0 %")
    assert "clearly better than full fine-tuning (85.9 %)" in verdict.text


def test_full_alone_is_not_compared_with_nothing():
    verdict = judged(FULL)
    assert verdict.recommended == "full"
    assert "cheaper" not in verdict.text


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
    ("p", "accuracy", "words"),
    [
        (0.04, 0.853, "below full fine-tuning (85.9 %) by no more than the margin of 1.0 points"),
        (0.04, 0.87, "clearly better than full fine-tuning (85.9 %)"),
        (0.05, 0.87, "not clearly different from full fine-tuning (85.9 %)"),
    ],
)
def test_the_comparison_with_full_follows_p(p, accuracy, words):
    assert words in judged(make_row("lora", accuracy, p=p), FULL).text


@pytest.mark.parametrize(
    ("p", "p_equivalent", "accuracy", "words"),
    [
        (0.4, 0.012, 0.853, "as good as full fine-tuning (85.9 %) within 1.0 points (TOST, p = 0.012)"),
        (0.03, 0.0004, 0.853, "as good as full fine-tuning (85.9 %) within 1.0 points (TOST, p < 0.001)"),
        (0.4, 0.05, 0.853, "not clearly different from full"),
        (0.03, 0.012, 0.863, "clearly better than full"),
    ],
)
def test_equivalence_is_said_where_it_holds(p, p_equivalent, accuracy, words):
    text = judged(make_row("lora", accuracy, p=p, p_equivalent=p_equivalent), FULL).text
    assert words in text
    assert ("TOST" in text) == ("TOST" in words)


def test_what_is_cheaper_and_may_be_as_good_is_named():
    rows = [make_row("tfidf", 0.8), make_row("probe", 0.83), make_row("lora", 0.839), FULL]
    pairs = [make_pair("tfidf", "full", p=0.016), make_pair("probe", "full", p=0.017), make_pair("lora", "full")]
    verdict = judged(*rows, pairs=pairs)
    assert verdict.recommended == "full"
    assert "of it. lora (83.9 %) costs less and is not clearly worse on these rows." in verdict.text
    clear = [pair.model_copy(update={"p": 0.016}) for pair in pairs]
    assert "costs less" not in judged(*rows, pairs=clear).text
    assert "probe (83.0 %) costs less" in judged(*rows, pairs=[*clear[:1], pairs[1], *clear[2:]]).text
    assert "costs less" not in judged(*rows[:1], pairs=pairs).text


def test_without_full_the_share_is_that_of_the_model():
    verdict = judged(make_row("lora", 0.85), runs=[make_run("lora")])
    assert verdict.text.endswith("with 0.9 % of the model's parameters trained.")
    assert "full" not in verdict.text


def test_tiny_shares_are_not_rounded_to_nothing():
    lora = make_row("lora", 0.85, p=0.9, trainable_parameters=42)
    assert "with 0.042 % of its parameters" in judged(lora, FULL).text


def test_nothing_beats_the_majority():
    verdict = judged(make_row("majority", 0.8), make_row("tfidf", 0.79), make_row("lora", 0.8))
    assert verdict.recommended == "tfidf"
    assert verdict.text.startswith("Nothing here is clearly worth training: tfidf reaches 79.0 %")
    assert "always answering the commonest class 80.0 %" in verdict.text


@pytest.mark.parametrize("rows", [(), BASE])
def test_nothing_complete(rows):
    verdict = judged(*rows, runs=[make_run("lora", status="failed", test=None)])
    assert verdict.recommended is None
    assert verdict.text.startswith("No run that could be recommended is complete.")
    assert verdict.caveats == ["1 of 1 runs failed and are missing from the summary: lora-0."]


def test_chance_depends_on_the_number_of_classes():
    data = make_data(labels=list("abcd"), class_counts={"test": [250] * 4})
    assert "stands at 50.3 %; chance is 25.0 %" in judged(*BASE, FULL, data=data).text


def test_times_and_memory_change_nothing():
    rows = [*BASE, make_row("probe", 0.84, p=0.2), make_row("lora", 0.853, p=0.4), FULL]
    others = [
        row.model_copy(update={"seconds_mean": 1e6 / (i + 1), "memory_mean_bytes": None, "pareto": True})
        for i, row in enumerate(rows)
    ]
    assert judged(*rows) == judged(*others)


# -- the caveats ---------------------------------------------------------------


def test_a_clean_study_of_one_method_has_no_caveats():
    assert judged(make_row("lora", 0.85), runs=[make_run("lora")]).caveats == []


def test_one_seed_is_said_for_trained_methods_only():
    rows = [make_row("probe", 0.7, n_seeds=1), make_row("lora", 0.85, n_seeds=1), FULL]
    assert caveat(judged(*rows), "One seed only (lora)")
    assert not caveat(judged(make_row("probe", 0.85, n_seeds=1)), "One seed")


def test_too_few_rows_by_the_difference_of_the_pair():
    rows = [make_row("lora", 0.85), make_row("ia3", 0.855)]
    verdict = judged(*rows, pairs=[make_pair("ia3", "lora", delta=0.005, half=0.04, rows_half=0.03)])
    assert caveat(verdict, "cannot tell lora and ia3 apart: their difference is known to 4.0 points either way.")
    # 1,000 rows x (3 / 1)^2
    assert caveat(verdict, "To see 1.0 points, about 9,000 rows are needed (1,000 x (3.0 / 1.0)^2).")
    assert not caveat(judged(*rows, pairs=[make_pair("ia3", "lora", half=0.01)]), "apart")
    assert not caveat(judged(*rows), "apart")


def test_too_few_seeds_where_the_rows_would_be_enough():
    rows, pair = [make_row("lora", 0.853), FULL], make_pair("lora", "full", half=0.03, rows_half=0.009)
    verdict = judged(*rows, pairs=[pair])
    assert caveat(verdict, "These seeds cannot tell lora and full apart")
    assert caveat(verdict, "leave 0.9 points of that open: to see 1.0 points, more seeds are needed")
    assert not caveat(verdict, "rows are needed")


def test_more_seeds_come_first_where_most_of_the_width_is_theirs():
    """Few labels, drawn anew with each seed: twice the rows would hardly be seen."""
    rows, pair = [make_row("lora", 0.85), make_row("ia3", 0.855)], make_pair("ia3", "lora", half=0.079, rows_half=0.013)
    verdict = judged(*rows, pairs=[pair])
    assert caveat(
        verdict, "known to 7.9 points either way. More seeds come first (--seeds): most of that is their spread."
    )
    assert caveat(verdict, "about 1,700 rows are needed as well (1,000 x (1.3 / 1.0)^2).")
    assert not caveat(judged(*rows, pairs=[make_pair("ia3", "lora", half=0.04, rows_half=0.03)]), "More seeds")


def test_enough_rows_where_the_difference_is_larger_than_its_width():
    rows = [make_row("lora", 0.90, p=0.001), FULL]
    assert not caveat(judged(*rows, pairs=[make_pair("lora", "full", delta=0.041, half=0.03)]), "apart")


def test_a_margin_of_zero_asks_for_no_number_of_rows():
    pair = make_pair("lora", "full", half=0.03)
    assert not caveat(judged(make_row("lora", 0.859, p=0.4), FULL, pairs=[pair], margin=0), "apart")


def test_a_method_that_is_not_above_the_majority():
    rows = [make_row("majority", 0.6), make_row("lora", 0.6, p=0.01), FULL]
    assert caveat(judged(*rows), "lora (60.0 %) is not above always answering the commonest class (60.0 %)")
    rows[1] = make_row("lora", 0.61, p=0.01)
    assert not caveat(judged(*rows), "commonest")


def test_one_class_only():
    data = make_data(class_counts={"test": [400, 600]})
    runs = [make_run("lora", 0, accuracy=0.4, mcc=0.0), make_run("lora", 1), make_run("full")]
    rows = [make_row("majority", 0.6), make_row("lora", 0.5, p=0.01), FULL]
    verdict = judged(*rows, data=data, runs=runs)
    assert caveat(verdict, "lora seems to answer one and the same class in 1 of 2 runs")
    assert not caveat(verdict, "is not above")  # one line for one thing
    runs[0] = make_run("lora", 0, accuracy=0.41, mcc=0.0)
    assert not caveat(judged(*rows, data=data, runs=runs), "same class")


def test_cut_texts():
    assert caveat(
        judged(FULL, data=make_data(truncated_fraction=0.43)), "43.0 % of the texts have more than 128 tokens"
    )
    assert not caveat(judged(FULL, data=make_data(truncated_fraction=0.2)), "tokens")


def test_still_improving_in_the_last_planned_epoch():
    runs = [make_run("lora", 0, best_epoch=5), make_run("lora", 1, best_epoch=4)]
    assert caveat(judged(make_row("lora", 0.85), runs=runs), "last planned epoch (5) in 1 of 2 runs")
    assert not caveat(judged(make_row("lora", 0.85), runs=runs[1:]), "planned epoch")
    # Stopped early: trained 4 of 5 epochs.
    stopped = [make_run("lora", epochs=4, best_epoch=4)]
    assert not caveat(judged(make_row("lora", 0.85), runs=stopped), "planned epoch")
    unknown = [make_run("lora", epochs=4, best_epoch=4, hyperparameters={})]
    assert caveat(judged(make_row("lora", 0.85), runs=unknown), "planned epoch (4)")
    untrained = [make_run("probe", epochs=0, best_epoch=0, hyperparameters={})]
    assert not caveat(judged(make_row("probe", 0.85), runs=untrained), "planned epoch")


def test_overfitting():
    runs = [
        make_run("lora", 0, train_losses=[0.6, 0.4, 0.1], validation_losses=[0.5, 0.4, 0.6]),
        make_run("lora", 1, train_losses=[0.6, 0.4, 0.1], validation_losses=[0.5, 0.4, 0.43]),
    ]
    words = (
        "lora overfits in 1 of 2 runs: from epoch 2 to 3, its validation loss rose from 0.40 to 0.60 while the training"
    )
    assert caveat(judged(make_row("lora", 0.85), runs=runs), words)
    assert not caveat(judged(make_row("lora", 0.85), runs=runs[1:]), "overfits")
    # Both losses rise: that is a training that broke, not one that knows its rows by heart.
    broken = [make_run("lora", 0, train_losses=[0.6, 0.4, 0.9], validation_losses=[0.5, 0.4, 0.9])]
    assert not caveat(judged(make_row("lora", 0.85), runs=broken), "overfits")


def test_labels_that_may_be_wrong():
    assert caveat(judged(FULL, n_suspects=6), "6 test rows may have a wrong label")
    assert caveat(judged(FULL, n_suspects=6), "suspects.csv lists them")
    assert not caveat(judged(FULL, n_suspects=5), "wrong label")
    sets = make_data(task="multi_label")
    assert caveat(judged(FULL, data=sets, n_suspects=6), "6 labels of test rows may be wrong, given or missing: every")
    assert not caveat(judged(FULL, data=sets, n_suspects=5), "may be wrong")


def test_a_source_that_repeats_its_texts():
    assert caveat(judged(FULL, data=make_data(overlap_removed=11)), "11 training or validation texts stood in a later")
    assert not caveat(judged(FULL, data=make_data(overlap_removed=10)), "later split")


def test_imbalance():
    data = make_data(class_counts={"test": [200, 800]})
    assert caveat(judged(FULL, data=data), "80.0 % of the test rows are 'pos'")
    assert not caveat(judged(FULL, data=make_data(class_counts={"test": [300, 700]})), "test rows are")
    assert not caveat(judged(FULL, data=make_data(class_counts={})), "test rows are")


def test_failed_runs_are_named():
    runs = [
        make_run("full"),
        make_run("lora", 0, status="failed", test=None),
        make_run("lora", 1, status="failed"),
    ]
    assert caveat(judged(FULL, runs=runs), "2 of 3 runs failed and are missing from the summary: lora-0, lora-1.")


def test_a_winner_among_several_is_slightly_optimistic():
    assert caveat(judged(make_row("lora", 0.86, p=0.9), FULL), "lora was picked by its score on these test rows")
    assert not caveat(judged(*BASE, FULL), "picked by")
