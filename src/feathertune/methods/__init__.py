"""The methods and the baselines: the only lists of them.

The command line, the documentation and the tests follow from these two registries. Importing this loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from feathertune.methods import baselines, full, lora, shira
from feathertune.methods.base import Method, Options, check_shared_options, resolve_options
from feathertune.methods.baselines import Baseline
from feathertune.registry import Registry

__all__ = ["BASELINES", "FOUNDATION_SEEDS", "METHODS", "Baseline", "Method", "Options", "choose_methods"]

METHODS: Registry[Method] = Registry("method", (lora.LORA, shira.SHIRA, full.FULL))
BASELINES: Registry[Baseline] = Registry(
    "baseline", (baselines.MAJORITY, baselines.TFIDF, baselines.FOUNDATION, baselines.PROBE)
)
# How many untrained heads the row `foundation` shows: one would be a coin toss.
FOUNDATION_SEEDS = 5


def choose_methods(
    names: Sequence[str], settings: Mapping[str, Any], *, learning_rate: float | None
) -> list[tuple[Method, Options]]:
    """Look up methods and settle their options.

    Args:
        names: Words from the command line; a repeated one counts once, a baseline is in every study anyway.
        settings: ``Config.method``.
        learning_rate: ``train.learning_rate``.

    Raises:
        UnknownNameError: If a name is no method.
        ConfigError: If an option is unknown, does not fit, or would do nothing.
    """
    chosen = [METHODS[name] for name in dict.fromkeys(names) if name not in BASELINES]
    by_name = {method.name: method for method in METHODS}
    check_shared_options(settings, chosen, by_name)
    return [
        (method, resolve_options(method, settings, learning_rate=learning_rate, all_methods=by_name))
        for method in chosen
    ]
