"""Registry of the baselines: rows of every study that train no encoder."""

from __future__ import annotations

from feathertune.baselines.linear import FOUNDATION, MAJORITY, PROBE, STACK, TFIDF, Baseline
from feathertune.registry import Registry

__all__ = ["BASELINES", "FOUNDATION_SEEDS", "Baseline"]

BASELINES: Registry[Baseline] = Registry("baseline", (MAJORITY, TFIDF, FOUNDATION, PROBE, STACK))
# Number of untrained heads in the row `foundation`; a single one would be a coin toss.
FOUNDATION_SEEDS = 5
