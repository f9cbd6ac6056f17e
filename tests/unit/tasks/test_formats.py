from __future__ import annotations

import math

import pytest

from feathertune.tasks import SCORES
from feathertune.tasks.formats import CORRELATION, DASH, SHARE, capitalised, decimal, percent


def test_shares():
    assert SHARE.score(0.87149) == "87.1%"
    assert SHARE.score(None) == SHARE.score(math.nan) == DASH
    assert SHARE.finely(0.87149) == "87.15%"
    assert SHARE.interval(0.85, 0.89) == "85.0–89.0%"
    assert SHARE.interval(0.85, None) == DASH
    assert SHARE.difference(-0.0041) == "−0.4"
    assert SHARE.difference(-0.0001) == "0.0"
    assert SHARE.difference(0.02) == "+2.0"
    assert SHARE.difference(None) == DASH
    assert SHARE.span(-0.004, 0.02) == "−0.4 to +2.0"
    assert SHARE.within(-0.0123) == "1.2 points"


def test_correlations():
    assert CORRELATION.score(0.8434) == "0.843"
    assert CORRELATION.score(-0.0004) == "0.000"
    assert CORRELATION.score(None) == DASH
    assert CORRELATION.finely(-0.12345) == "−0.1235"
    assert CORRELATION.interval(0.8, 0.9) == "0.800–0.900"
    assert CORRELATION.interval(-0.1, 0.2) == "−0.100 to 0.200"
    assert CORRELATION.difference(0.0123) == "+0.012"
    assert CORRELATION.difference(-0.0004) == "0.000"
    assert CORRELATION.span(-0.01, None) == DASH
    assert CORRELATION.within(0.0123) == "0.012"


@pytest.mark.parametrize(
    ("text", "value", "step", "expected"),
    [
        (SHARE, 0.8, 0.1, "80%"),
        (SHARE, 0.825, 0.005, "82.5%"),
        (CORRELATION, 0.5, 0.5, "0.5"),
        (CORRELATION, -0.82, 0.01, "−0.82"),
    ],
)
def test_ticks_have_the_decimals_of_their_step(text, value, step, expected):
    assert text.tick(value, step) == expected


def test_each_score_has_its_format():
    formats = {name: score.format for name, score in SCORES.items()}
    shares = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1"), SHARE)
    assert formats == {**shares, "mcc": CORRELATION, "spearman": CORRELATION}


def test_plain_numbers_and_titles():
    assert (percent(0.0012, 2), percent(math.inf)) == ("0.12%", DASH)
    assert (decimal(-0.5), decimal(-0.0004), decimal(None)) == ("−0.500", "0.000", DASH)
    assert (capitalised("MCC"), capitalised("macro F1"), capitalised("")) == ("MCC", "Macro F1", "")
