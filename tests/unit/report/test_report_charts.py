from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feathertune.records import Calibration
from feathertune.report.drawing import charts, run_charts, svg
from feathertune.report.drawing.svg import Style
from feathertune.report.format import units
from feathertune.report.panels.reliability import Bin, _joined, draw
from feathertune.tasks.formats import CORRELATION, SHARE

SPACE = "\u202f"
STYLE = Style("k1", "circle")
shares = st.floats(0, 1)
costs = st.one_of(st.just(0.0), st.floats(1e-6, 1e13))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (units.seconds(0.0002), "< 1 ms"),
        (units.seconds(0.25), "250 ms"),
        (units.seconds(0.9999), "1.0 s"),
        (units.seconds(9.96), "10 s"),
        (units.seconds(59.7), "1 min"),
        (units.seconds(72), "1 min 12 s"),
        (units.seconds(3599.9), "1 h"),
        (units.seconds(7325), "2 h 2 min"),
        (units.seconds(None), "–"),
        (units.seconds(math.nan), "–"),
        (units.size(2_400_000), "2.4 MB"),
        (units.size(999_960), "1.0 MB"),
        (units.size(12), "12 B"),
        (units.size(0), "–"),
        (units.count(1_234_567), "1.2 M"),
        (units.count(770), "770"),
        (units.count(999_700), "1.0 M"),
        (units.percent(0.87149), "87.1%"),
        (units.percent(None), "–"),
        (units.percent_of_weights(0.00034), "0.034%"),
        (units.percent_of_weights(1.0), "100%"),
        (units.times(431508.0), "> 1,000x"),
        (units.times(2.3), "2.3x"),
        (units.probability(0.0004), "p < 0.001"),
        (units.clip("abcdef", 4), "abc…"),
        (units.clip("abcd", 4), "abcd"),
        (units.clip("größer", 4), "grö…"),
        (units.clip("电影很好看", 6), "电影…"),
        (units.clip("电影很", 6), "电影很"),
        (units.clip("अच्छी फिल्म", 4), "अच्छी…"),
        (units.clip("cafe\u0301s!", 5), "cafe\u0301…"),
        (units.clip("cafe\u0301s", 5), "cafe\u0301s"),
        (units.clip("so 👩\u200d👧\u200d👦 ok", 8), "so…"),
    ],
)
def test_units(said, expected):
    assert said.replace(SPACE, " ").replace("\u00a0", " ") == expected


def test_marks_upon_marks_do_not_make_a_name_long():
    heap = "a" + "\u0301" * 1000
    assert len(units.clip(heap, 4)) <= 4 * 4 + 1


def test_a_name_that_runs_to_the_left_turns_nothing_beside_it():
    counts = np.array([[3.0, 1.0], [0.0, 4.0]])
    drawn = run_charts.confusion("lora", ["إيجابي (5)", "bad"], counts)
    assert drawn.count(">\u2068إيجابي (5)\u2069<") == 2, "beside its row and under its column"
    assert "\u2068إيجابي (5)\u2069 → bad: 1 (" in drawn
    assert "\u2068bad" not in drawn


def test_everything_is_escaped():
    drawn = svg.element("text", "<b>&", class_='"><script>', x=1.25)
    assert drawn == '<text class="&#34;&gt;&lt;script&gt;" x="1.2">&lt;b&gt;&amp;</text>'
    assert "<img" not in svg.marker(1, 2, STYLE, hover="<img onerror=x>")


def test_pareto_front_by_hand():
    def point(name, cost, accuracy):
        return charts.Tradeoff(name, STYLE, cost, accuracy)

    points = [point("dear", 9, 0.9), point("worse", 10, 0.9), point("cheap", 1, 0.5), point("beaten", 2, 0.4)]
    assert [p.name for p in charts.pareto_front(points)] == ["cheap", "dear"]
    tied = [point("low", 1, 0.5), point("high", 1, 0.6)]
    assert [p.name for p in charts.pareto_front(tied)] == ["high"]


@given(st.lists(st.tuples(costs, shares), min_size=1, max_size=12))
def test_no_point_beats_the_front(pairs):
    points = [charts.Tradeoff(str(i), STYLE, cost, accuracy) for i, (cost, accuracy) in enumerate(pairs)]
    front = charts.pareto_front(points)
    for point in points:
        assert any(p.cost <= point.cost and p.score >= point.score for p in front)
    assert all(a.cost < b.cost and a.score < b.score for a, b in itertools.pairwise(front))


@given(st.lists(costs, min_size=1, max_size=12), st.sampled_from([svg.SECONDS, svg.BYTES, svg.PARAMETERS]))
def test_amounts_stay_on_their_axis(values, quantity):
    scale = svg.amount_scale(values, quantity, 50.0, 320.0)
    for value in values:
        assert 50 <= scale(value) <= 320 + 1e-6
    ordered = [scale(value) for value in sorted(values)]
    assert ordered == sorted(ordered)
    for tick, _ in scale.ticks:
        assert 50 - 1e-6 <= scale(tick) <= 320 + 1e-6


@given(st.lists(shares, min_size=1, max_size=12))
def test_shares_stay_on_their_axis(values):
    scale = svg.score_scale(SHARE, values, 200.0, 10.0)
    assert 0 <= scale.low < scale.high <= 1 + 1e-9
    assert 2 <= len(scale.ticks) <= 12
    for value in values:
        assert 10 - 1e-6 <= scale(value) <= 200 + 1e-6


@pytest.mark.parametrize("values", [(-0.02, 0.03), (0.81, 0.83), (-1.0, 1.0), (0.5, 0.5)])
def test_an_axis_of_correlations_holds_them_and_has_ends(values):
    scale = svg.score_scale(CORRELATION, values, 0, 100)
    assert -1 <= scale.low <= min(values) <= max(values) <= scale.high <= 1
    labels = [label for _, label in scale.ticks]
    assert len(set(labels)) == len(labels), "no two ticks are called alike"
    assert "%" not in "".join(labels)


@given(st.lists(st.tuples(costs, shares), min_size=2, max_size=8))
def test_charts_hold_no_impossible_number(pairs):
    points = [charts.Tradeoff(f"m{i}", STYLE, cost, accuracy) for i, (cost, accuracy) in enumerate(pairs)]
    drawn = charts.tradeoffs(points, svg.SECONDS)
    assert drawn.count("<circle") == len(points)
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_seeds_share_the_bins_of_their_reliability():
    one = Calibration(temperature=1.0, ece=0.1, log_loss=0.5, bins=[(100, 0.55, 0.4), (300, 1.0, 0.9)])
    other = Calibration(temperature=2.0, ece=0.2, log_loss=0.5, bins=[(300, 0.59, 0.8), (50, 0.6, 0.5)])
    low, high = _joined([one, other])
    assert (low.rows, low.confidence) == (225, pytest.approx((55 + 177 + 30) / 450))
    assert low.right == pytest.approx((40 + 240 + 25) / 450)
    assert (high.rows, high.confidence, high.right) == (150, 1.0, 0.9)


def test_reliability_stands_on_its_line_where_all_is_as_said():
    drawn = draw("<b>", STYLE, [Bin(10, 0.7, 0.7), Bin(90, 0.9, 0.9)])
    first, last = (tuple(map(float, point)) for point in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawn))
    x1, y1, x2, y2 = map(
        float, re.search(r'x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)" class="ref', drawn).groups()
    )
    for x, y in (first, last):
        assert y == pytest.approx(y1 + (x - x1) / (x2 - x1) * (y2 - y1), abs=0.2)
    assert "<b>" not in drawn
    assert "90.0% confidence, 90 rows" in drawn
    assert "90.0% confidence, 90 decisions" in draw("lora", STYLE, [Bin(90, 0.9, 0.9)], of="decisions")
