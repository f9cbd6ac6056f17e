"""``top_layers: auto``: choose the number of last layers to adapt, by a short sweep on part of the training rows.

Each depth is trained for two epochs on at most 1,000 rows and scored on validation rows; the smallest one within
``study.margin`` of the best is taken. No test row is read. It is a rough guess: a point of accuracy on 500 rows is
noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from feathertune.study.running.trial import some_rows, trial

if TYPE_CHECKING:
    from feathertune.study.planning.resolve import ResolvedStudy
    from feathertune.study.run_spec import RunSpec
    from feathertune.study.running.workbench import Workbench

_TRAIN_ROWS, _VALIDATION_ROWS, _EPOCHS = 1_000, 500, 2


def depths(n_layers: int) -> list[int]:
    """Return the depths to try, from one layer to all, close together near one."""
    tried = {1, 2, 3, 4, *(n_layers * share // 12 for share in (6, 8, 12))}
    return sorted(depth for depth in tried if 1 <= depth <= n_layers)


def sweep_epochs(n_layers: int, n_train: int) -> float:
    """Return the cost of the sweep in epochs that train all layers on all rows; a forward pass is a third of those."""
    share = min(1.0, _TRAIN_ROWS / n_train)
    return sum(_EPOCHS * share * (1 + 2 * depth / n_layers) / 3 for depth in depths(n_layers))


def smallest_within(scores: Mapping[int, float], margin: float) -> int:
    """Return the smallest depth whose score is at most a margin below the best."""
    best = max(scores.values())
    return min(depth for depth, score in scores.items() if score >= best - margin - 1e-9)


def choose_depth(spec: RunSpec, study: ResolvedStudy, bench: Workbench) -> tuple[int, dict[int, float]]:
    """Try depths and choose one.

    Returns:
        The depth, and the primary score on validation rows of each depth that was tried.
    """
    parts = some_rows(bench, spec.seed, train=_TRAIN_ROWS, validation=_VALIDATION_ROWS)
    settings = study.config.train.model_copy(update={"epochs": _EPOCHS, "min_steps": 0, "patience": _EPOCHS})
    scores: dict[int, float] = {}
    for depth in depths(bench.base.n_layers):
        found = trial(spec.at_depth(depth), study, bench, parts, settings=settings).validation
        assert found is not None, "a sweep without validation rows is refused before"
        scores[depth] = study.task.primary.of(found)
    return smallest_within(scores, study.config.study.margin), scores
