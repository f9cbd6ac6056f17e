"""``top_layers: auto``: how many of the last layers to adapt, by a short sweep on part of the training rows.

Each depth is trained for two epochs on at most 1,000 rows and scored on validation rows; the smallest one within
``study.margin`` of the best is taken. It looks at no test row. A short training favours neither side much, but it is
a rough guess: a point of accuracy on 500 rows is noise. Not for methods that do not adapt by layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from feathertune.methods.targets import LayeredOptions
from feathertune.study.running.trial import some_rows, trial

if TYPE_CHECKING:
    from feathertune.methods import Method
    from feathertune.study.running.workbench import Workbench

_TRAIN_ROWS, _VALIDATION_ROWS, _EPOCHS = 1_000, 500, 2


def depths(n_layers: int) -> list[int]:
    """The depths that are tried, from one layer to all: close together where few layers are trained."""
    tried = {1, 2, 3, 4, *(n_layers * share // 12 for share in (6, 8, 12))}
    return sorted(depth for depth in tried if 1 <= depth <= n_layers)


def sweep_epochs(n_layers: int, n_train: int) -> float:
    """Return the cost of the sweep in epochs that train all layers on all rows; a forward pass is a third of those."""
    share = min(1.0, _TRAIN_ROWS / n_train)
    return sum(_EPOCHS * share * (1 + 2 * depth / n_layers) / 3 for depth in depths(n_layers))


def smallest_within(scores: Mapping[int, float], margin: float) -> int:
    """The smallest depth whose score is at most a margin below the best."""
    best = max(scores.values())
    return min(depth for depth, score in scores.items() if score >= best - margin - 1e-9)


def choose_depth(
    method: Method, options: LayeredOptions, seed: int, bench: Workbench
) -> tuple[LayeredOptions, dict[int, float]]:
    """Try depths and settle on one.

    Args:
        method: The method.
        options: Its options, with ``top_layers: auto``.
        seed: Of everything that is drawn.
        bench: Data, encoder and machine.

    Returns:
        The options with a number, and the leading score on validation rows of each depth that was tried.
    """
    parts = some_rows(bench, seed, train=_TRAIN_ROWS, validation=_VALIDATION_ROWS)
    settings = bench.config.train.model_copy(update={"epochs": _EPOCHS, "min_steps": 0, "patience": _EPOCHS})
    scores: dict[int, float] = {}
    for depth in depths(bench.base.n_layers):
        tried = options.model_copy(update={"top_layers": depth})
        found = trial(method, tried, seed, bench, parts, settings=settings).validation
        assert found is not None, "a sweep without validation rows is refused before"
        scores[depth] = bench.task.primary.of(found)
    return options.model_copy(update={"top_layers": smallest_within(scores, bench.config.study.margin)}), scores
