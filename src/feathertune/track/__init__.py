"""Report a study's runs to other programs; one that fails is left out, and the study goes on."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

from feathertune.config import Config
from feathertune.errors import MissingExtraError
from feathertune.registry import Registry, entry_points
from feathertune.study.observe import Observer, together
from feathertune.track.adapters import ADAPTERS
from feathertune.track.tracker import Tracker
from feathertune.track.tracking import Tracking

TRACKERS: Registry[Tracker] = Registry("tracker", ADAPTERS, others=entry_points("feathertune.trackers", Tracker))


def choose_trackers(names: Sequence[str]) -> tuple[Tracker, ...]:
    """Return trackers by names, which may have commas; none of their packages is loaded."""
    words = [word.strip() for name in names for word in name.split(",")]
    chosen = tuple(TRACKERS[word] for word in dict.fromkeys(words) if word)
    for tracker in chosen:
        if any(importlib.util.find_spec(package) is None for package in tracker.packages):
            raise MissingExtraError(tracker.name, f"--track {tracker.name}")
    return chosen


@contextlib.contextmanager
def tracked(
    observer: Observer, trackers: Sequence[Tracker], out: Path, config: Config, *, beside: bool = False
) -> Iterator[Observer]:
    """Yield an observer that also tells trackers; `beside` writes to ``OUT.track``, not into a bundle."""
    if not trackers:
        yield observer
        return
    out = out.resolve()
    folder = out.with_name(f"{out.name}.track") if beside else out / "track"
    settings = config.model_dump(mode="json", exclude={"method"})
    tracking = Tracking(trackers, folder, out.name, settings, observer.said)
    try:
        yield together(observer, tracking)
    finally:
        tracking.close()
