"""A workbench of a few rows that stands for all of them: the same code runs on it, and takes seconds.

The rows are whole steps and whole passes of the real plan, from short to long with the largest among them, so that
what is measured on them are real batches. Not for learning anything: the rows are no fair sample of the classes.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from feathertune.data.sources.collector import SPLITS, SplitName
from feathertune.data.splitting.pool import Split
from feathertune.engine.prefix_cache.store import ActivationCache
from feathertune.study.cost.pass_shapes import Pass, reading_passes, spread, training_steps, work

if TYPE_CHECKING:
    from collections.abc import Mapping

    from feathertune.config import TrainConfig
    from feathertune.study.running.workbench import Workbench


def rows_of_steps(bench: Workbench, train: TrainConfig, n: int) -> np.ndarray:
    """Training rows of `n` steps of the first epoch, from short to long texts."""
    steps = training_steps(
        bench.encoded["train"],
        batch_size=train.batch_size,
        token_budget=train.token_budget,
        seed=(0, 1),
    )
    # The last step of an epoch is smaller: it stands for no other.
    whole = [step for step in steps if sum(len(one.rows) for one in step) == train.batch_size] or steps
    chosen = spread([work(step, bench.base.hidden_size) for step in whole], n)
    return np.concatenate([one.rows for index in chosen for one in whole[index]])


def rows_of_passes(bench: Workbench, name: SplitName, n: int) -> np.ndarray:
    """Rows of `n` passes in which a split is read; none of a split without rows."""
    passes = passes_of(bench, name)
    if not passes:
        return np.zeros(0, np.int64)
    chosen = spread([work([one], bench.base.hidden_size) for one in passes], n)
    return np.concatenate([passes[index].rows for index in chosen])


def passes_of(bench: Workbench, name: SplitName) -> list[Pass]:
    """The passes in which a split is read."""
    return reading_passes(bench.encoded[name], token_budget=bench.pretrained.token_budget)


def some_of_each(bench: Workbench, share: float) -> dict[SplitName, np.ndarray]:
    """A share of the rows of each split, drawn at random; at least two where there are some."""
    rng = np.random.default_rng(0)
    sizes = {name: len(bench.encoded[name]) for name in SPLITS}
    return {name: rng.permutation(n)[: max(2, round(share * n))] for name, n in sizes.items()}


def miniature(bench: Workbench, rows: Mapping[SplitName, np.ndarray]) -> Workbench:
    """A workbench of some rows, which shares nothing with the whole one that a run changes.

    Args:
        bench: The whole one.
        rows: Of each split.
    """
    # Its hidden states are no one else's: they do not go into a folder that a person keeps.
    engine = bench.pretrained.engine.model_copy(update={"cache_folder": None})

    def part(name: SplitName) -> Split:
        whole = bench.split(name)
        return Split([whole.texts[row] for row in rows[name]], _two_classes(whole.labels[rows[name]]))

    splits = dataclasses.replace(bench.splits, train=part("train"), validation=part("validation"), test=part("test"))
    return dataclasses.replace(
        bench,
        splits=splits,
        encoded={name: bench.encoded[name].take(rows[name]) for name in SPLITS},
        activations=ActivationCache(
            engine,
            bench.runtime,
            token_budget=bench.pretrained.token_budget,
            base_fingerprint=bench.base.fingerprint,
        ),
        whole=None,
        _features={},
    )


def _two_classes(labels: np.ndarray) -> np.ndarray:
    """The labels, with a second class where there is one only: nothing could be fitted, and nothing is learned here."""
    if labels.ndim == 2 or not len(labels) or len(set(labels.tolist())) > 1:
        return labels
    changed = labels.copy()
    changed[0] = 0 if labels[0] else 1
    return changed
