"""Baselines: rows of every study that train no encoder, and the only list of them."""

from __future__ import annotations

from feathertune.baselines.linear import FOUNDATION, MAJORITY, PROBE, STACK, TFIDF, Baseline
from feathertune.registry import Registry

__all__ = ["BASELINES", "FOUNDATION_SEEDS", "Baseline"]

BASELINES: Registry[Baseline] = Registry("baseline", (MAJORITY, TFIDF, FOUNDATION, PROBE, STACK))
# How many untrained heads the row `foundation` shows: one would be a coin toss.
FOUNDATION_SEEDS = 5
