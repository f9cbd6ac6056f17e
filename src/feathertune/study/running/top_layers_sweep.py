"""Choose the number of last layers to adapt (``top_layers: auto``) by a short sweep on part of the training rows.

It takes the smallest depth within ``study.margin`` of the best validation score: a rough guess.
"""

from __future__ import annotations

from collections.abc import Mapping

from feathertune.study.run_spec import RunSpec
from feathertune.study.running.trial import some_rows, trial
from feathertune.study.running.workbench import Prepared

_TRAIN_ROWS, _VALIDATION_ROWS, _EPOCHS = 1_000, 500, 2


def depths(n_layers: int) -> list[int]:
    """Return the depths to try, from one layer to all, denser near one."""
    tried = {1, 2, 3, 4, *(n_layers * share // 12 for share in (6, 8, 12))}
    return sorted(depth for depth in tried if 1 <= depth <= n_layers)


def sweep_epochs(n_layers: int, n_train: int) -> float:
    """Return the sweep's cost in epochs of training all layers; a forward pass counts as a third."""
    share = min(1.0, _TRAIN_ROWS / n_train)
    return sum(_EPOCHS * share * (1 + 2 * depth / n_layers) / 3 for depth in depths(n_layers))


def smallest_within(scores: Mapping[int, float], margin: float) -> int:
    """Return the smallest depth that scores within a margin of the best."""
    best = max(scores.values())
    return min(depth for depth, score in scores.items() if score >= best - margin - 1e-9)


def choose_depth(spec: RunSpec, prepared: Prepared) -> tuple[int, dict[int, float]]:
    """Return the chosen depth, and the primary validation score of each depth tried."""
    bench, study = prepared.bench, prepared.study
    parts = some_rows(bench, spec.seed, train=_TRAIN_ROWS, validation=_VALIDATION_ROWS)
    settings = study.config.train.model_copy(update={"epochs": _EPOCHS, "min_steps": 0, "patience": _EPOCHS})
    scores: dict[int, float] = {}
    for depth in depths(bench.base.n_layers):
        found = trial(spec.at_depth(depth), prepared, parts, settings=settings).validation
        assert found is not None, "settings reject a sweep without validation rows"
        scores[depth] = study.task.primary.of(found)
    return smallest_within(scores, study.config.study.margin), scores
