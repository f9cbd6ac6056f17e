"""Telling other programs how a study goes: TensorBoard, MLflow, Weights & Biases, trackio. Each is an extra.

A run of a study is a run there, with its settings, each step, each epoch, and its scores at the end. All of it is
written under the study folder unless the tracker's own environment variables say otherwise, and none of it is needed
again: what feathertune reads is its own record. A tracker that fails is said once and left out; the study goes on.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from feathertune.config import Config
from feathertune.errors import MissingExtraError
from feathertune.registry import Registry, entry_points
from feathertune.study.observe import Observer, Together
from feathertune.track.mlflow import MLFLOW
from feathertune.track.tensorboard import TENSORBOARD
from feathertune.track.tracker import Tracker
from feathertune.track.tracking import Tracking
from feathertune.track.trackio import TRACKIO
from feathertune.track.wandb import WANDB

TRACKERS: Registry[Tracker] = Registry(
    "tracker", (TENSORBOARD, MLFLOW, WANDB, TRACKIO), others=entry_points("feathertune.trackers", Tracker)
)


def choose_trackers(names: Sequence[str]) -> tuple[Tracker, ...]:
    """The trackers that were asked for; none of their packages is loaded by this.

    Args:
        names: Names of `TRACKERS`; one may hold several, with commas.

    Raises:
        UnknownNameError: If there is no such tracker.
        MissingExtraError: If its package is not installed.
    """
    words = [word.strip() for name in names for word in name.split(",")]
    chosen = tuple(TRACKERS[word] for word in dict.fromkeys(words) if word)
    for tracker in chosen:
        if any(importlib.util.find_spec(package) is None for package in tracker.packages):
            raise MissingExtraError(tracker.name, f"--track {tracker.name}")
    return chosen


def tracked_study(
    observer: Observer, trackers: Sequence[Tracker], out: Path, config: Config
) -> AbstractContextManager[Observer]:
    """An observer of a study that tells trackers, too; they write into ``OUT/track``.

    Args:
        observer: Is told the same, and what becomes of the trackers.
        trackers: From `choose_trackers`.
        out: The study folder; nothing is written before its first run begins.
        config: The settings; the options of a method are told with its runs.
    """
    return _tracked(observer, trackers, out / "track", out.resolve().name, config)


def tracked_training(
    observer: Observer, trackers: Sequence[Tracker], out: Path, config: Config
) -> AbstractContextManager[Observer]:
    """As `tracked_study`, for one training: beside the bundle, in ``OUT.track``, since a bundle is shipped."""
    out = out.resolve()
    return _tracked(observer, trackers, out.with_name(f"{out.name}.track"), out.name, config)


@contextlib.contextmanager
def _tracked(
    observer: Observer, trackers: Sequence[Tracker], folder: Path, study: str, config: Config
) -> Iterator[Observer]:
    if not trackers:
        yield observer
        return
    settings = config.model_dump(mode="json", exclude={"method"})
    tracking = Tracking(trackers, folder, study=study, settings=settings, say=observer.said)
    try:
        yield Together(observer, tracking)
    finally:
        tracking.close()
