"""A short training that is scored on validation rows alone, by which a setting can be chosen. No test row is read.

Not for judging a method: that takes a study, with several seeds and the test rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

import numpy as np

from feathertune.data.sources.collector import SPLITS
from feathertune.engine.fast_path import fast_parts
from feathertune.engine.training.gradient import Labelled
from feathertune.engine.training.loop import EpochInfo
from feathertune.runtime import seed_everything
from feathertune.study.running.prepare import begins_with_head, job_of, prepared_model, start_head, training_of

if TYPE_CHECKING:
    from feathertune.config import TrainConfig
    from feathertune.data.sources.collector import SplitName
    from feathertune.data.tokens.encode import EncodedTexts
    from feathertune.engine.prefix_cache.store import ActivationCache
    from feathertune.methods import Method, Options
    from feathertune.study.running.workbench import Workbench

Parts = Mapping["SplitName", tuple["EncodedTexts", np.ndarray]]


def some_rows(bench: Workbench, seed: int, *, train: int, validation: int) -> Parts:
    """At most so many rows of each split, drawn by the seed."""
    rng = np.random.default_rng((seed, train))
    parts: dict[SplitName, tuple[EncodedTexts, np.ndarray]] = {}
    for name, most in (("train", train), ("validation", validation)):
        split = cast("SplitName", name)
        texts = bench.encoded[split]
        rows = np.sort(rng.permutation(len(texts))[:most])
        parts[split] = texts.take(rows), bench.split(split).labels[rows]
    return parts


def all_rows(bench: Workbench) -> Parts:
    """All rows of each split but the test rows."""
    return {name: (bench.encoded[name], bench.split(name).labels) for name in SPLITS if name != "test"}


def trial(
    method: Method,
    options: Options,
    seed: int,
    bench: Workbench,
    parts: Parts,
    *,
    settings: TrainConfig,
    cache: ActivationCache | None = None,
    on_epoch: Callable[[EpochInfo], bool] = lambda _: True,
) -> EpochInfo:
    """Train and return the best epoch.

    Args:
        method: The method.
        options: Its options.
        seed: Of everything that is drawn.
        bench: Encoder, settings and machine.
        parts: The rows, from `some_rows` or `all_rows`.
        settings: Epochs, batch, schedule, patience.
        cache: Keeps hidden states for a later trial on the same rows; by default nothing is kept.
        on_epoch: Is told of each epoch; where it says no, the training stops there.
    """
    config, labels = bench.config, parts["train"][1]
    seed_everything(seed)
    n_steps = settings.steps_on(len(labels))
    job = dataclasses.replace(job_of(bench, seed), n_steps=n_steps)
    encoder, model = prepared_model(method, options, job, bench)
    if begins_with_head(method, settings):
        start_head(encoder, method, options, seed, bench)
    if cache is None:
        cache = bench.activations.empty()
    tokens = {name: texts for name, (texts, _) in parts.items()}
    with fast_parts(encoder, config.engine, bench.runtime), cache.inputs(encoder, model, tokens) as inputs:
        training = training_of(
            method,
            options,
            model,
            job,
            Labelled(inputs.texts["train"], labels, bench.objective),
            Labelled(inputs.texts["validation"], parts["validation"][1]),
            settings=settings,
            runtime=bench.runtime,
            task=bench.task,
        )
        for event in training.events():
            if isinstance(event, EpochInfo) and not on_epoch(event):
                break
    assert training.best is not None, "there was an epoch"
    return training.best
