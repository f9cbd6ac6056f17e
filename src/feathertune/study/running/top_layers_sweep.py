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


def sweep_tokens(bench: Workbench) -> float:
    """Return the tokens that the sweep reads for each depth, a trained one counted three times."""
    train, validation = (float(bench.encoded[name].lengths.mean()) for name in ("train", "validation"))
    n_train = min(_TRAIN_ROWS, len(bench.encoded["train"]))
    n_validation = min(_VALIDATION_ROWS, len(bench.encoded["validation"]))
    return _EPOCHS * (3 * n_train * train + n_validation * validation)


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
        scores[depth] = found.leading(study.metric)
    return smallest_within(scores, study.config.study.margin), scores
