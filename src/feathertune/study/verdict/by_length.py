"""Primary score by length of the texts, and the share of their tokens that was never read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from feathertune.records import LengthBucket, ScoreOfBucket
from feathertune.statistics.inference import seed_interval
from feathertune.statistics.measures import Answers

# Tokens up to which a bucket goes, beside what is read at once.
EDGES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
# A bucket with fewer rows joins its neighbour, but never one of texts that fit with one of texts that do not.
LEAST_ROWS = 20


def by_length(
    answers: Mapping[str, Answers], *, n_tokens: NDArray[np.int64], n_unread: NDArray[np.int64], max_length: int
) -> list[LengthBucket]:
    """Put the answers ``(S, N)`` to the test rows into buckets by length, from short to long, none of them empty.

    `n_tokens` and `n_unread` are the tokens of each whole text and those that no method read, ``(N,)``.
    """
    edges = sorted({*EDGES, max_length})
    places = np.searchsorted(edges, n_tokens, side="left")
    whole, longer = edges.index(max_length) + 1, len(edges) + 1
    groups = [
        rows
        for span in (range(whole), range(whole, longer))
        for rows in _merged([np.flatnonzero(places == place) for place in span])
    ]
    return [
        LengthBucket(
            shortest=int(n_tokens[rows].min()),
            longest=int(n_tokens[rows].max()),
            n=len(rows),
            unread_fraction=float(n_unread[rows].sum() / n_tokens[rows].sum()),
            scores=[_score(method, given.of_rows(rows)) for method, given in answers.items()],
        )
        for rows in groups
    ]


def _merged(groups: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    kept: list[NDArray[np.int64]] = []
    for rows in (group for group in groups if len(group)):
        if kept and min(len(rows), len(kept[-1])) < LEAST_ROWS:
            kept[-1] = np.concatenate([kept[-1], rows])
        else:
            kept.append(rows)
    return kept


def _score(method: str, answers: Answers) -> ScoreOfBucket:
    found = seed_interval(answers)
    return ScoreOfBucket(method=method, score=found.mean, low=found.low, high=found.high)
