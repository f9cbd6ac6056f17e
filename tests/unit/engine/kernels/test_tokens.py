"""Rows that are tokens, taken out of a padded batch and put back."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feathertune.engine.kernels.attention import MASKED
from feathertune.engine.kernels.tokens import Tokens, filled_up, it_pays
from gradients import grads


def mask_of(lengths):
    seen = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.zeros(seen.shape).masked_fill(~seen, MASKED)[:, None, None, :], seen.reshape(-1)


@settings(deadline=None)
@given(st.lists(st.integers(1, 70), min_size=1, max_size=20))
def test_takes_tokens_alone_and_puts_them_back_among_zeros(lengths):
    mask, seen = mask_of(lengths)
    tokens = Tokens.of(mask)
    n, n_rows = int(seen.sum()), len(seen)
    assert (tokens is not None) == it_pays(n, n_rows)
    if tokens is None:
        assert filled_up(n) > 0.94 * n_rows
        return
    x = torch.randn(n_rows, 3, dtype=torch.float64, requires_grad=True)
    taken = tokens.take(x)
    assert len(taken) == filled_up(n) < n_rows
    torch.testing.assert_close(taken[:n], x[seen], rtol=0, atol=0)
    back = tokens.put(taken)
    torch.testing.assert_close(back, x * seen[:, None], rtol=0, atol=0)
    # Autograd's own gradients of both ways; what only fills up counts for nothing on the way back.
    gradient = torch.randn_like(back)
    (of_put,) = grads(back, [taken], gradient)
    torch.testing.assert_close(tokens.take_gradient(gradient), of_put, rtol=0, atol=0)
    (of_take,) = grads(tokens.take(x), [x], of_put)
    torch.testing.assert_close(tokens.put(of_put), of_take, rtol=0, atol=0)


@given(st.integers(1, 100_000))
def test_filling_up_costs_little_and_makes_few_numbers(n):
    filled = filled_up(n)
    assert n <= filled < n + 64
    assert filled - n < max(8, n / 8)
    assert filled_up(filled) == filled


def test_up_to_two_thousand_tokens_are_some_sixty_numbers_of_rows():
    assert len({filled_up(n) for n in range(1, 2049)}) < 60


def test_a_batch_without_padding_is_left_as_it_is():
    assert Tokens.of(None) is None
    assert Tokens.of(mask_of([5, 5, 5])[0]) is None
    assert Tokens.of(torch.full((2, 1, 1, 4), MASKED)) is None
