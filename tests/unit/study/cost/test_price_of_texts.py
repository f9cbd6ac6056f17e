"""How the price of what reads texts alone grows from some of the rows to all of them."""

import pytest

from feathertune.study.cost.estimate import extrapolated


def test_a_part_that_does_not_grow_is_not_multiplied():
    """1.5 s to begin with, and 12 s for all rows: the first tenth alone would say 27 s."""
    tried = [(share, 1.5 + 12 * share) for share in (0.1, 0.4)]
    assert extrapolated(tried) == pytest.approx(13.5)
    assert extrapolated(tried[:1]) == pytest.approx(27)


def test_the_last_two_count():
    assert extrapolated([(0.01, 5.0), (0.1, 2.0), (0.4, 5.0)]) == pytest.approx(11.0)


def test_it_costs_no_less_than_some_of_the_rows_did():
    assert extrapolated([(0.1, 3.0), (0.4, 2.0)]) == 2.0
    assert extrapolated([(0.25, 3.0), (1.0, 4.0)]) == 4.0
