"""Texts whose number follows from their words, in a unit of its own."""

from __future__ import annotations

import random
from pathlib import Path

from e2e.cli import write_csv

WORTH = {"great": 12.5, "good": 5.0, "bad": -7.5, "awful": -15.0}
MIDDLE = 1950.25


def ratings(n: int, seed: int = 0) -> list[tuple[str, float]]:
    """Texts that differ, and the sum of what their words are worth, around a middle that is far from 0."""
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        words = [rng.choice(["the", "film", "scene", "it", "was", "very"]) for _ in range(4)]
        chosen = rng.choices(list(WORTH), k=rng.randint(1, 3))
        words = [*words, *chosen]
        rng.shuffle(words)
        rows.append((" ".join([*words, str(i)]), MIDDLE + sum(WORTH[word] for word in chosen)))
    return rows


def write_ratings(path: Path, n: int, seed: int = 0) -> Path:
    """The same as a CSV with the columns text and rating."""
    return write_csv(path, [(text, str(number)) for text, number in ratings(n, seed)], header=("text", "rating"))
