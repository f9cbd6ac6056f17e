"""Coverage of the intervals and false claims, in simulated studies; the benchmark has more of them."""

from __future__ import annotations

import numpy as np
import pytest
import simulate_studies

from feathertune.records import Reason, Verdict

ACCURACY = {"tfidf": 0.85, "lora": 0.85, "full": 0.85}


def test_drawn_accuracies_are_those_asked_for():
    methods = [(0.86, 3, 0.01), (0.81, 1, 0.0)]
    rng = np.random.default_rng(0)
    right, truth = zip(*simulate_studies.draw(rng, 400, 500, methods), strict=True)
    assert np.mean([a.mean() for a, _ in right]) == pytest.approx(0.86, abs=0.004)
    assert np.mean([b.mean() for _, b in right]) == pytest.approx(0.81, abs=0.004)
    assert np.std([a for a, _ in truth]) == pytest.approx(0.01, rel=0.1)
    assert np.concatenate([b for _, b in truth]) == pytest.approx(0.81)
    a = np.stack([a for a, _ in right])
    assert np.mean(a[:, 0] != a[:, 1]) == pytest.approx(0.08, abs=0.01)


@pytest.mark.parametrize(
    ("recommended", "against_full", "others", "wrong"),
    [
        ("tfidf", "not_clear", (), False),
        ("lora", "better", (), True),
        ("lora", "not_clear", ("cheaper_not_clearly_worse",), False),
        ("lora", "not_clear", (), True),
        ("lora", "within_margin", (), True),
    ],
)
def test_what_counts_as_a_wrong_winner(recommended, against_full, others, wrong):
    reasons = [Reason.of("recommended", against_full=against_full), *map(Reason.of, others)]
    verdict = Verdict(recommended=recommended, reasons=reasons)
    assert simulate_studies.names_wrong_winner(verdict, ACCURACY) is wrong


def test_a_true_winner_is_none():
    verdict = Verdict(recommended="full", reasons=[Reason.of("recommended"), Reason.of("nothing_cheaper_close")])
    assert not simulate_studies.names_wrong_winner(verdict, ACCURACY | {"full": 0.9})


@pytest.mark.slow
@pytest.mark.parametrize("rows", [200, 1000])
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("spread", [0.005, 0.01])
def test_the_intervals_hold_the_truth_as_often_as_they_say(rows, seeds, spread):
    cell = simulate_studies.coverage(gap=0.02, rows=rows, seeds=seeds, spread=spread, studies=3000)
    # 93 to 97 %, and three standard errors of 3,000 studies below and above.
    assert 0.92 <= cell["covered_difference"] <= 0.98
    assert 0.92 <= cell["covered_single"] <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 3])
def test_the_bootstrap_holds_the_difference_of_the_trained_models(seeds):
    cell = simulate_studies.coverage_of_rows(gap=0.02, rows=500, seeds=seeds, spread=0.01, studies=800)
    assert 0.92 <= cell["covered_bootstrap"] <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "adapters"), [(200, 3), (1000, 3), (1000, 12)])
def test_no_winner_is_named_where_there_is_none(rows, adapters):
    cell = simulate_studies.verdicts(gap=0.0, rows=rows, seeds=3, spread=0.01, studies=200, adapters=adapters)
    # Under 5 % of studies, and two standard errors of 200.
    assert cell["wrong_winner_pair"] <= 0.08
    assert cell["wrong_winner_verdict"] <= 0.08


@pytest.mark.slow
def test_a_loss_of_the_whole_margin_is_not_called_as_good():
    cell = simulate_studies.verdicts(gap=0.01, rows=5000, seeds=3, spread=0.005, studies=200)
    # 5 %, a little for the choice of the row, and two standard errors of 200.
    assert cell["as_good"] <= 0.1
