"""What a run computes, as the shapes of its passes, known before any of them runs.

The batches of a training follow from lengths and seed alone (`feathertune.data.tokens.batching`), so that they can be
counted instead of guessed. Seconds are not known here: `feathertune.study.cost.estimate` measures some passes and
weighs all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from feathertune.data.tokens.batching import cut_passes, plan_steps
from feathertune.data.tokens.encode import EncodedTexts
from feathertune.engine.kernels.tokens import filled_up, it_pays


@dataclass(frozen=True)
class Pass:
    """One forward pass.

    Attributes:
        rows: Of the data.
        shape: Padded, ``(B, T)``; B counts windows where texts have some.
        n_tokens: Without padding.
    """

    rows: np.ndarray
    shape: tuple[int, int]
    n_tokens: int

    @property
    def n_rows(self) -> int:
        """Rows of its products: tokens, and as much of the padding as blocks do not leave out."""
        padded = self.shape[0] * self.shape[1]
        return filled_up(self.n_tokens) if it_pays(self.n_tokens, padded) else padded

    @property
    def n_pairs(self) -> int:
        """Pairs of tokens in its heads, with padding."""
        return self.shape[0] * self.shape[1] ** 2


Step = list[Pass]


def reading_passes(texts: EncodedTexts, *, token_budget: int) -> list[Pass]:
    """The passes in which a split is read without training, as `feathertune.engine.predict` cuts them.

    Args:
        texts: Of the split.
        token_budget: Padded tokens of a pass, at most.
    """
    lengths = texts.lengths
    order = np.argsort(lengths, kind="stable")
    return [_pass(texts, rows) for rows in cut_passes(order, lengths, token_budget=token_budget)]


def training_steps(texts: EncodedTexts, *, batch_size: int, token_budget: int, seed: tuple[int, ...]) -> list[Step]:
    """The steps of one epoch, as the training loop makes them; see `feathertune.data.tokens.batching.plan_steps`."""
    steps = plan_steps(texts.lengths, batch_size=batch_size, token_budget=token_budget, seed=seed)
    return [[_pass(texts, rows) for rows in passes] for passes in steps]


def _pass(texts: EncodedTexts, rows: np.ndarray) -> Pass:
    return Pass(rows, texts.shape(rows), int(texts.lengths[rows].sum()))


def work(passes: Iterable[Pass], hidden_size: int) -> float:
    """The arithmetic of passes, in rows of products without attention.

    A block of the usual form multiplies 12 matrices of D x D with each token, and attention adds two products with T
    keys: 1 + T / 6D of the first. Source: Kaplan et al. 2020, arXiv:2001.08361, table 1.
    """
    return sum(one.n_rows + one.n_pairs / (6 * hidden_size) for one in passes)


def features_of(steps: Sequence[Step]) -> np.ndarray:
    """What the seconds of a step are taken to be a sum of: itself, its passes, rows of products, pairs of tokens.

    Returns:
        ``(steps, 4)`` float64.
    """
    return np.array(
        [[1, len(step), sum(one.n_rows for one in step), sum(one.n_pairs for one in step)] for step in steps],
        dtype=np.float64,
    )


def shapes_of(steps: Iterable[Step]) -> set[int]:
    """The different numbers of rows: libraries prepare their products for each one once, and keep that.

    Products in the heads depend on texts and length each; they are a sixth of what is kept, and not counted.
    """
    return {one.n_rows for step in steps for one in step}


def spread(sizes: Sequence[float], n: int) -> list[int]:
    """Indices of at most `n` sizes, evenly from among the small to the largest, which is always one of them."""
    order = np.argsort(np.asarray(sizes), kind="stable")
    places = np.linspace(len(order) - 1, (len(order) - 1) / (2 * n), min(n, len(order)))
    return sorted({int(order[round(place)]) for place in places})
