"""The costs of a step are found again from seconds that follow them."""

import numpy as np
import pytest

from feathertune.study.cost import step_costs


def test_step_costs_are_found_again():
    tokens = np.array([100.0, 700.0, 1500.0, 4000.0])
    assert step_costs(tokens, 0.02 + 1e-4 * tokens) == pytest.approx((0.02, 1e-4), rel=1e-6)


def test_step_costs_of_one_step():
    fixed_s, token_s = step_costs(np.array([500.0]), [0.5])
    assert fixed_s + 500 * token_s == pytest.approx(0.5)


@pytest.mark.parametrize("seconds", [[0.3, 0.2, 0.1], [0.1, 5.0, 20.0]])
def test_step_costs_are_never_negative(seconds):
    assert min(step_costs(np.array([100.0, 200.0, 300.0]), seconds)) >= 0
