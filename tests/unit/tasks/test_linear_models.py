from __future__ import annotations

import numpy as np
from scipy import sparse

from feathertune.tasks import REGRESSION
from feathertune.tasks.linear_models import Rows


def _best_ridge(inputs, labels, validation, validation_labels):
    return REGRESSION.linear.best(Rows(inputs, labels, validation, validation_labels, 1, REGRESSION))


def test_the_penalty_is_chosen_by_the_squared_error_and_at_a_tie_the_stronger():
    rng = np.random.default_rng(1)
    noise, numbers = rng.normal(size=(60, 40)), rng.normal(size=60)
    chosen = _best_ridge({"noise": noise[:40]}, numbers[:40], {"noise": noise[40:]}, numbers[40:]).chosen
    assert chosen["alpha"] >= 100, "of noise nothing is to be learned"
    signal = noise @ rng.normal(size=40)
    chosen = _best_ridge({"noise": noise}, signal, {"noise": noise}, signal).chosen
    assert chosen["alpha"] == 0.1
    chosen = _best_ridge({"nothing": sparse.csr_matrix((6, 3))}, numbers[:6], {}, numbers[:0]).chosen
    assert chosen["alpha"] == 10_000
