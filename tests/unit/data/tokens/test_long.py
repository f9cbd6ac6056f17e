"""Which tokens are read: never a wrong one, none twice where that is not meant, and as many as there is room for."""

from itertools import pairwise

import pytest

from feathertune.data.tokens.encode import n_unread, spans
from feathertune.records import HEAD, Reading


@pytest.mark.parametrize("n", [11, 12, 25, 400])
def test_the_head_is_the_first_or_the_last(n):
    assert spans(n, 10, HEAD) == [[(0, 10)]]
    assert spans(n, 10, HEAD, "left") == [[(n - 10, n)]]
    assert n_unread(n, [[(0, 10)]]) == n_unread(n, [[(n - 10, n)]]) == n - 10


def test_head_and_tail_have_the_proportion_of_the_paper():
    assert spans(900, 510, Reading(long="head-tail")) == [[(0, 128), (518, 900)]]
    assert spans(127, 126, Reading(long="head-tail")) == [[(0, 32), (33, 127)]]
    assert n_unread(900, spans(900, 510, Reading(long="head-tail"))) == 390


@pytest.mark.parametrize("stride", [0, 3, 9])
def test_windows_reach_everything_from_end_to_end(stride):
    for n in range(11, 200):
        read = spans(n, 10, Reading(long="windows", stride=stride, max_windows=1_000))
        starts = [start for ((start, end),) in read if end - start == 10]
        assert len(starts) == len(read), "all of one length"
        assert (starts[0], starts[-1] + 10) == (0, n)
        assert all(0 < b - a <= 10 - stride for a, b in pairwise(starts))
        assert n_unread(n, read) == 0
        fewer = -(-(n - 10) // (10 - stride))
        assert len(read) == 1 + fewer, "not one more than the stride asks for"


def test_too_few_windows_lie_apart():
    read = spans(100, 10, Reading(long="windows", stride=2, max_windows=4))
    assert read == [[(0, 10)], [(30, 40)], [(60, 70)], [(90, 100)]]
    assert n_unread(100, read) == 60
    assert spans(100, 10, Reading(long="windows", max_windows=1)) == [[(0, 10)]]
