"""The search for a default learning rate: it goes on while the best is at an edge, and no further."""

import argparse
import math

import pytest
import sweep_rates

from feathertune.errors import ConfigError
from feathertune.methods import METHODS

LORA = METHODS["lora"]
DEFAULT = LORA.options().learning_rate
ARGUMENTS = argparse.Namespace(seeds=2)


@pytest.mark.parametrize(
    ("factor", "found", "tried"),
    [(1, 1, 3), (3, 10**0.5, 4), (10, 10, 5), (0.1, 0.1, 5), (1e6, 10**2, 6)],
)
def test_the_best_rate_is_found_near_the_default(monkeypatch, factor, found, tried):
    calls = []

    def score(method, options, seed, bench, arguments):
        calls.append((options.learning_rate, seed))
        return -abs(math.log10(options.learning_rate / (factor * DEFAULT)))

    monkeypatch.setattr(sweep_rates, "score", score)
    row = sweep_rates.search(LORA, None, ARGUMENTS)
    assert row["best"] == pytest.approx(found * DEFAULT, rel=0.3)
    assert len(row["accuracies"]) == tried
    assert len(calls) == len(set(calls)) == tried * ARGUMENTS.seeds, "no rate is tried twice"


def test_a_method_that_cannot_serve_the_encoder_is_a_row(monkeypatch):
    def score(*_):
        raise ConfigError("no biases")

    monkeypatch.setattr(sweep_rates, "score", score)
    assert sweep_rates.search(LORA, None, ARGUMENTS) == {"method": "lora", "default": DEFAULT, "error": "no biases"}
