"""Plan steps of a fixed number of texts of similar length, each split into passes with little padding.

Nearly every random batch is padded to a long text, which doubles the work on reviews. Batches by length add 2%.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

# Texts are drawn at random into windows of this many steps, and sorted by length only within a window. The window is
# large enough that a step's texts have similar lengths, and small enough that a step is still a fair sample.
WINDOW_STEPS = 50


def plan_steps(
    lengths: np.ndarray,
    *,
    batch_size: int,
    token_budget: int,
    seed: tuple[int, ...],
) -> list[list[np.ndarray]]:
    """Order one epoch of texts by their lengths ``(N,)``: steps, each a list of passes, each an array of row indices.

    Every row occurs exactly once. The same `seed`, such as (seed, epoch), gives the same plan.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(lengths))
    window = batch_size * WINDOW_STEPS
    steps: list[list[np.ndarray]] = []
    for start in range(0, len(order), window):
        rows = order[start : start + window]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        steps += [
            list(cut_passes(rows[i : i + batch_size], lengths, token_budget=token_budget))
            for i in range(0, len(rows), batch_size)
        ]
    return [steps[i] for i in rng.permutation(len(steps))]


def cut_passes(rows: np.ndarray, lengths: np.ndarray, *, token_budget: int) -> Iterator[np.ndarray]:
    """Split rows, sorted by their lengths ``(N,)``, into nonempty passes of at most `token_budget` padded tokens."""
    start = 0
    for end in range(1, len(rows) + 1):
        full = end < len(rows) and int(lengths[rows[end]]) * (end + 1 - start) > token_budget
        if full or end == len(rows):
            yield rows[start:end]
            start = end


def coarsely(n: int) -> int:
    """Round up to one of 1, 2, 3, 4, 6, 8, 12, 16, 24, ...; products of two such numbers are few as well."""
    power = 1 << (n - 1).bit_length()
    return power * 3 // 4 if power * 3 // 4 >= n else power


def cut_widths(
    counts: Mapping[int, int], *, token_budget: int, pass_tokens: int, padding_share: float = 1.0
) -> list[list[int]]:
    """Group waiting texts, counted by padded width, into the cheapest passes; return each pass's widths, ascending.

    A pass costs `pass_tokens` tokens, and a padding token costs `padding_share` of a token. A text above `token_budget`
    gets its own pass.
    """
    widths = sorted(counts)
    cost: list[float] = [0.0]
    begins: list[int] = []
    for end, width in enumerate(widths, start=1):
        n_texts, n_padding, best, begin = 0, 0, float("inf"), end
        for start in range(end - 1, -1, -1):
            n_texts += counts[widths[start]]
            n_padding += counts[widths[start]] * (width - widths[start])
            n_passes = -(-n_texts // max(1, token_budget // width))
            n_tokens = n_texts * width - n_padding
            total = cost[start] + n_tokens + padding_share * n_padding + n_passes * pass_tokens
            if total < best:
                best, begin = total, start
        cost.append(best)
        begins.append(begin)
    groups: list[list[int]] = []
    end = len(widths)
    while end:
        groups.append(widths[begins[end - 1] : end])
        end = begins[end - 1]
    return groups[::-1]
