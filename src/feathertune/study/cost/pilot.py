"""A pilot: a few real batches of a study, on which a real run takes seconds; its scores mean nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from feathertune.config import TrainConfig
from feathertune.data.sources.collector import SPLITS, SplitName
from feathertune.data.splitting.pool import Split
from feathertune.data.tokens.batching import cut_passes, plan_steps
from feathertune.study.planning.resolve import ResolvedStudy
from feathertune.study.running.workbench import Workbench

# The first epoch includes what libraries prepare once for each shape, the second one does not.
EPOCHS = 2
_STEPS, _PASSES = 4, 3

# Row indices of one forward pass, and the passes of one optimizer step.
Pass = np.ndarray
Step = list[Pass]


def pilot(bench: Workbench, train: TrainConfig) -> Workbench:
    """Return a workbench with some training steps of the study, and some passes of each other split."""
    steps = training_steps(bench, train, 0, 1)
    # The last step of an epoch may be smaller.
    whole = [step for step in steps if sum(map(len, step)) == train.batch_size] or steps
    rows: dict[SplitName, np.ndarray] = {"train": _some(bench, "train", whole, _STEPS)}
    for name in SPLITS[1:]:
        rows[name] = _some(bench, name, [[one] for one in reading_passes(bench, name)], _PASSES)
    return part_of(bench, rows)


def pilot_study(study: ResolvedStudy) -> ResolvedStudy:
    """Return the study with the epochs of a pilot."""
    return study.with_train(
        study.config.train.model_copy(update={"epochs": EPOCHS, "min_steps": 0, "patience": EPOCHS})
    )


def part_of(bench: Workbench, rows: Mapping[SplitName, np.ndarray]) -> Workbench:
    """Return a workbench of some rows; a run on it changes nothing in the whole one."""

    def part(name: SplitName, whole: Split) -> Split:
        return Split([whole.texts[row] for row in rows[name]], _two_classes(whole.labels[rows[name]]))

    return dataclasses.replace(
        bench,
        splits=bench.splits.each(part),
        encoded={name: bench.encoded[name].take(rows[name]) for name in SPLITS},
        activations=bench.activations.empty(cache_folder=None),
        whole=None,
    )


def reading_passes(bench: Workbench, name: SplitName) -> list[Pass]:
    """Return the passes that read a split without training, as `feathertune.engine.predict` cuts them."""
    lengths = bench.encoded[name].lengths
    return list(cut_passes(np.argsort(lengths, kind="stable"), lengths, token_budget=bench.pretrained.token_budget))


def training_steps(bench: Workbench, train: TrainConfig, seed: int, epoch: int) -> list[Step]:
    """Return the steps of an epoch, as the training loop makes them."""
    return plan_steps(
        bench.encoded["train"].lengths, batch_size=train.batch_size, token_budget=train.token_budget, seed=(seed, epoch)
    )


def work(bench: Workbench, name: SplitName, passes: Iterable[Pass]) -> float:
    """Return the arithmetic of passes, in tokens of a short text.

    A block multiplies 12 matrices of D x D with each token, and attention adds two products with T keys: 1 + T / 6D of
    the first. Source: Kaplan et al. 2020, arXiv:2001.08361, table 1.
    """
    shapes = [bench.encoded[name].shape(rows) for rows in passes]
    return sum(n * width * (1 + width / (6 * bench.base.hidden_size)) for n, width in shapes)


def spread(sizes: Sequence[float], n: int) -> list[int]:
    """Return the indices of at most `n` sizes, evenly from small to the largest, which is always included."""
    order = np.argsort(np.asarray(sizes), kind="stable")
    places = np.linspace(len(order) - 1, (len(order) - 1) / (2 * n), min(n, len(order)))
    return sorted({int(order[round(place)]) for place in places})


def _some(bench: Workbench, name: SplitName, steps: Sequence[Step], n: int) -> np.ndarray:
    sizes = [work(bench, name, step) for step in steps]
    chosen = [rows for index in spread(sizes, n) for rows in steps[index]]
    return np.concatenate(chosen) if chosen else np.zeros(0, np.int64)


def _two_classes(labels: np.ndarray) -> np.ndarray:
    """Return the labels, with a second class if there is only one, which classifiers refuse."""
    if labels.ndim == 2 or not len(labels) or len(set(labels.tolist())) > 1:
        return labels
    changed = labels.copy()
    changed[0] = 0 if labels[0] else 1
    return changed
