"""Log a study's runs to trackers; a tracker that fails is dropped, and the study continues."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from feathertune.config import Config
from feathertune.errors import MissingExtraError, first_line
from feathertune.records import RunRecord, Scores, flat
from feathertune.registry import Registry, entry_points
from feathertune.study.observe import Observer, Silent, together
from feathertune.study.run_spec import RunSpec
from feathertune.track.adapters import ADAPTERS
from feathertune.track.tracker import Settings, TrackedRun, Tracker

TRACKERS: Registry[Tracker] = Registry("tracker", ADAPTERS, others=entry_points("feathertune.trackers", Tracker))


def choose_trackers(names: Sequence[str]) -> tuple[Tracker, ...]:
    """Return trackers by name, also comma-separated; loads none of their packages."""
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
    """Yield an observer that also logs to trackers; `beside` writes to ``OUT.track`` instead of into the folder."""
    if not trackers:
        yield observer
        return
    out = out.resolve()
    folder = out.with_name(f"{out.name}.track") if beside else out / "track"
    settings = config.model_dump(mode="json", exclude={"method"})
    tracking = _Tracking(trackers, folder, out.name, settings, observer.said)
    try:
        yield together(observer, tracking)
    finally:
        tracking.close()


class _Tracking(Silent):
    """An observer that logs to trackers; `say` receives each tracker's location, and its error."""

    def __init__(
        self,
        trackers: Sequence[Tracker],
        folder: Path,
        study: str,
        settings: Mapping[str, Any],
        say: Callable[[str], None],
    ) -> None:
        self._trackers = {tracker.name: tracker for tracker in trackers}
        self._folder, self._study, self._settings, self._say = folder, study, _plain(settings), say
        self._runs: dict[str, TrackedRun] = {}
        self._told: set[str] = set()
        self._step = 0

    def started(self, spec: RunSpec) -> None:
        of_run = {
            "method": spec.method,
            "base_name": spec.base,
            "kind": spec.kind,
            "seed": spec.seed,
            "option": dict(spec.options),
        }
        settings = {**_plain(of_run), **self._settings}
        self._step = 0
        for name, tracker in list(self._trackers.items()):
            with self._forgiving(name):
                folder = self._folder / name
                folder.mkdir(parents=True, exist_ok=True)
                self._runs[name] = tracker.start(folder, self._study, spec.id, settings)
                if name not in self._told:
                    self._told.add(name)
                    self._say(f"--track {name} writes to {self._runs[name].place}")

    def measured(self, line: Mapping[str, Any]) -> None:
        if line["event"] == "step":
            self._step = line["step"]
            self._log({f"train/{key}": line[key] for key in ("loss", "learning_rate", "epoch")})
        elif line["event"] == "epoch":
            validation = {f"validation/{name}": line[f"validation_{name}"] for name in ("loss", "score")}
            self._log({"train/epoch_loss": line["train_loss"], **validation})
        elif line["event"] == "scores":
            self._log(_scores(line["validation"], line["test"]))
            self._finish(failed=False)

    def ended(self, record: RunRecord) -> None:
        costs = {
            "cost/seconds": record.seconds.total,
            "cost/trainable_parameters": record.trainable_parameters,
            "cost/shipped_bytes": record.adapter_bytes,
            "cost/peak_memory_bytes": record.peak_memory_bytes,
        }
        self._log({**_scores(record.validation, record.test), **costs})
        self._finish(failed=record.status == "failed")

    def close(self) -> None:
        self._finish(failed=True)

    def _log(self, values: Mapping[str, float | None]) -> None:
        known = {key: float(value) for key, value in values.items() if value is not None and math.isfinite(value)}
        for name, run in list(self._runs.items()):
            with self._forgiving(name):
                run.log(self._step, known)

    def _finish(self, *, failed: bool) -> None:
        while self._runs:
            name, run = self._runs.popitem()
            with self._forgiving(name):
                run.finish(failed=failed)

    @contextlib.contextmanager
    def _forgiving(self, name: str) -> Iterator[None]:
        """Drop a tracker at its first error."""
        try:
            yield
        except Exception as error:
            del self._trackers[name]
            self._say(f"--track {name} failed and was turned off: {type(error).__name__}: {first_line(error)}")
            if (run := self._runs.pop(name, None)) is not None:
                with contextlib.suppress(Exception):
                    run.finish(failed=True)


def _scores(validation: Scores | None, test: Scores | None) -> dict[str, float | None]:
    # Validation scores of the kept weights, which may not be those of the last epoch.
    splits = {"validation_final": validation, "test": test}
    return {f"{split}/{key}": v for split, scores in splits.items() if scores for key, v in scores.model_dump().items()}


def _plain(nested: Mapping[str, Any]) -> Settings:
    """Return set values by dotted name, in types that every tracker supports."""
    return {
        key: value if isinstance(value, (str, int, float, bool)) else json.dumps(value)
        for key, value in flat(nested).items()
        if value is not None
    }
