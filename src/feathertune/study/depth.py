"""``top_layers: auto``: how many of the last layers to adapt, by a short sweep on part of the training rows.

Each depth is trained for two epochs on at most 1,000 rows and scored on validation rows; the smallest one within
``study.margin`` of the best is taken. It looks at no test row. A short training favours neither side much, but it is
a rough guess: a point of accuracy on 500 rows is noise. Not for methods that do not adapt by layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np

from feathertune.engine.cached import ActivationCache
from feathertune.engine.gradient import Labelled
from feathertune.engine.install import fast_parts
from feathertune.engine.loop import Training
from feathertune.methods import Method
from feathertune.methods.base import TargetedOptions
from feathertune.runtime import seed_everything
from feathertune.study.prepare import prepared_model, start_head

if TYPE_CHECKING:
    from feathertune.data.encode import EncodedTexts
    from feathertune.data.raw import SplitName
    from feathertune.study.workbench import Workbench

_TRAIN_ROWS, _VALIDATION_ROWS, _EPOCHS = 1_000, 500, 2


def depths(n_layers: int) -> list[int]:
    """The depths that are tried, from one layer to all: close together where few layers are trained."""
    tried = {1, 2, 3, 4, *(n_layers * share // 12 for share in (6, 8, 12))}
    return sorted(depth for depth in tried if 1 <= depth <= n_layers)


def smallest_within(scores: Mapping[int, float], margin: float) -> int:
    """The smallest depth whose accuracy is at most a margin below the best."""
    best = max(scores.values())
    return min(depth for depth, accuracy in scores.items() if accuracy >= best - margin - 1e-9)


def choose_depth(
    method: Method, options: TargetedOptions, seed: int, bench: Workbench
) -> tuple[TargetedOptions, dict[int, float]]:
    """Try depths and settle on one.

    Args:
        method: The method.
        options: Its options, with ``top_layers: auto``.
        seed: Of everything that is drawn.
        bench: Data, encoder and machine.

    Returns:
        The options with a number, and the validation accuracy of each depth that was tried.
    """
    rng = np.random.default_rng((seed, _TRAIN_ROWS))
    parts: dict[SplitName, tuple[EncodedTexts, np.ndarray]] = {}
    for name, most in (("train", _TRAIN_ROWS), ("validation", _VALIDATION_ROWS)):
        split = cast("SplitName", name)
        texts = bench.encoded[split]
        rows = np.sort(rng.permutation(len(texts))[:most])
        parts[split] = texts.take(rows), bench.split(split).labels[rows]
    scores = {depth: _score(method, options, depth, seed, bench, parts) for depth in depths(bench.base.n_layers)}
    return options.model_copy(update={"top_layers": smallest_within(scores, bench.config.study.margin)}), scores


def _score(
    method: Method,
    options: TargetedOptions,
    depth: int,
    seed: int,
    bench: Workbench,
    parts: Mapping[SplitName, tuple[EncodedTexts, np.ndarray]],
) -> float:
    seed_everything(seed)
    encoder, model = prepared_model(method, options.model_copy(update={"top_layers": depth}), seed, bench)
    config = bench.config
    if config.train.head_first == "on":
        start_head(encoder, seed, bench)
    cache = ActivationCache(
        config.engine, bench.runtime, token_budget=config.train.token_budget, base_fingerprint=encoder.fingerprint
    )
    tokens = {name: texts for name, (texts, _) in parts.items()}
    with fast_parts(encoder, config.engine, bench.runtime), cache.inputs(encoder, model, tokens) as inputs:
        training = Training(
            model,
            Labelled(inputs.texts["train"], parts["train"][1]),
            Labelled(inputs.texts["validation"], parts["validation"][1]),
            settings=config.train.model_copy(update={"epochs": _EPOCHS, "patience": _EPOCHS}),
            learning_rate=options.learning_rate,
            seed=seed,
            runtime=bench.runtime,
        )
        for _ in training.events():
            pass
    assert training.best is not None, "there was an epoch"
    return training.best.validation.accuracy
