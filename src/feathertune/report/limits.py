"""How much a report shows at most, so that it stays small whatever a study holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How much of each thing is shown at most; lengths in characters."""

    methods: int
    runs: int
    cards: int
    cells: int
    epochs: int
    labels: int
    examples: int
    text: int
    words: int
