"""Train once and score only on validation rows, to choose a setting. Test rows are never read."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from feathertune.config import TrainConfig
from feathertune.data.sources.collector import SPLITS, SplitName
from feathertune.data.tokens.encode import EncodedTexts
from feathertune.engine.fast_path import fast_parts
from feathertune.engine.prefix_cache.store import ActivationCache
from feathertune.engine.training.gradient import Labelled
from feathertune.engine.training.loop import EpochInfo
from feathertune.runtime import seed_everything
from feathertune.study.run_spec import RunSpec
from feathertune.study.running.prepare import begins_with_head, ready_model, start_head, training_of
from feathertune.study.running.workbench import Prepared, Workbench

Parts = Mapping[SplitName, tuple[EncodedTexts, np.ndarray]]


def some_rows(bench: Workbench, seed: int, *, train: int, validation: int) -> Parts:
    """Return at most `train` and `validation` rows of each split, drawn by the seed."""
    rng = np.random.default_rng((seed, train))
    most: dict[SplitName, int] = {"train": train, "validation": validation}
    rows = {name: np.sort(rng.permutation(len(bench.encoded[name]))[:n]) for name, n in most.items()}
    return {name: (bench.encoded[name].take(found), bench.splits[name].labels[found]) for name, found in rows.items()}


def all_rows(bench: Workbench) -> Parts:
    """Return all rows of each split except the test rows."""
    return {name: (bench.encoded[name], bench.splits[name].labels) for name in SPLITS if name != "test"}


def trial(
    spec: RunSpec,
    prepared: Prepared,
    parts: Parts,
    *,
    settings: TrainConfig,
    cache: ActivationCache | None = None,
    on_epoch: Callable[[EpochInfo], bool] = lambda _: True,
) -> EpochInfo:
    """Train and return the best epoch; `on_epoch` returns False to stop. A `cache` can be reused in later trials."""
    bench, study, labels = prepared.bench, prepared.study, parts["train"][1]
    seed_everything(spec.seed)
    ready = ready_model(spec, settings, bench, n_rows=len(labels))
    if begins_with_head(ready.method, settings):
        start_head(ready, bench)
    if cache is None:
        cache = bench.activations.empty()
    tokens = {name: texts for name, (texts, _) in parts.items()}
    with (
        fast_parts(ready.encoder, study.config.engine, bench.runtime),
        cache.inputs(ready.encoder, ready.model, tokens) as inputs,
    ):
        training = training_of(
            ready,
            Labelled(inputs.texts["train"], labels, ready.objective),
            Labelled(inputs.texts["validation"], parts["validation"][1]),
            settings=settings,
            runtime=bench.runtime,
            task=study.task,
        )
        for event in training.events():
            if isinstance(event, EpochInfo) and not on_epoch(event):
                break
    assert training.best is not None, "at least one epoch has ended"
    return training.best
