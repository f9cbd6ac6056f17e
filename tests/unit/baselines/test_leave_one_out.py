import numpy as np
import pytest
from sklearn.linear_model import Ridge

from feathertune.baselines.leave_one_out import PENALTIES, leave_one_out

RNG = np.random.default_rng(0)


def refitted(values, targets):
    """Fit anew without each row, at every penalty; keep the best."""
    scaled = values / np.sqrt((values**2).sum(1).mean())
    mean = targets.mean(0)
    found = []
    for penalty in PENALTIES:
        predicted = np.empty_like(targets)
        for row in range(len(values)):
            rest = np.arange(len(values)) != row
            model = Ridge(alpha=penalty, fit_intercept=False).fit(scaled[rest], targets[rest] - mean)
            predicted[row] = mean + model.predict(scaled[row : row + 1]).reshape(-1)
        found.append(predicted)
    return min(found, key=lambda predicted: ((predicted - targets) ** 2).mean())


@pytest.mark.parametrize("width", [3, 60])
def test_it_equals_fitting_anew_without_each_row(width):
    values = RNG.normal(size=(30, width))
    targets = values[:, :2] @ RNG.normal(size=(2, 2)) + 0.3 * RNG.normal(size=(30, 2)) + 5
    np.testing.assert_allclose(leave_one_out(values, targets), refitted(values, targets), atol=1e-6)


def test_values_without_information_predict_no_better_than_the_mean():
    values, targets = RNG.normal(size=(200, 50)), RNG.normal(size=(200, 1))
    errors = ((leave_one_out(values, targets) - targets) ** 2).mean()
    assert errors > 0.97 * targets.var()


def test_information_along_a_tiny_direction_does_not_count():
    signal = RNG.normal(size=(200, 1))
    values = np.hstack([np.ones((200, 1)), RNG.normal(size=(200, 3))])
    for size, least, most in ((1.0, 0.9, 1.0), (1e-3, -0.1, 0.1)):
        predicted = leave_one_out(np.hstack([values, size * signal]), signal)
        assert least < 1 - ((predicted - signal) ** 2).mean() / signal.var() < most


def test_constant_values_are_allowed():
    targets = np.arange(10.0)[:, None]
    assert np.isfinite(leave_one_out(np.ones((10, 4)), targets)).all()
