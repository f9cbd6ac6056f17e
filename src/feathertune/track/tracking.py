"""From what a study tells to the numbers that trackers take; the one place that forgives a tracker its errors."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feathertune.errors import first_line
from feathertune.records import RunRecord, Scores, flat
from feathertune.study.observe import Silent
from feathertune.track.tracker import Point, Session, Tracker

if TYPE_CHECKING:
    from feathertune.study.run_spec import RunSpec

# Some trackers wait for the disk at each call; a step of a small model must not wait for them.
_FLUSH_EVERY_S = 5.0


class Tracking(Silent):
    """An observer that tells trackers.

    Args:
        trackers: Opened when the first run begins.
        folder: Each has a folder of its name in it.
        study: What the runs belong to.
        settings: Of all runs, nested.
        say: Is told where each tracker writes, and when one is given up.
    """

    def __init__(
        self,
        trackers: Sequence[Tracker],
        folder: Path,
        *,
        study: str,
        settings: Mapping[str, Any],
        say: Callable[[str], None],
    ) -> None:
        self._waiting = list(trackers)
        self._folder, self._study, self._say = folder.resolve(), study, say
        self._settings = _settings(settings)
        self._sessions: dict[str, Session] = {}
        self._points: list[Point] = []
        self._flushed = self._step = 0.0
        self._running = False

    def started(self, spec: RunSpec) -> None:
        """Begin a run in each tracker."""
        self._open()
        self._points, self._step, self._flushed, self._running = [], 0, time.monotonic(), True
        of_run = {"method": spec.method, "kind": spec.kind, "seed": spec.seed, "option": dict(spec.options)}
        settings = {**_settings(of_run), **self._settings}
        self._each(lambda session: session.begin(spec.id, settings))

    def measured(self, line: Mapping[str, Any]) -> None:
        """Note a step, an epoch or the scores; hand them on now and then."""
        event = line["event"]
        if event == "step":
            self._step = line["step"]
            self._note({f"train/{key}": line[key] for key in ("loss", "learning_rate", "epoch")})
        elif event == "epoch":
            values = {"train/epoch_loss": line["train_loss"], "validation/loss": line["validation_loss"]}
            scores = ("accuracy", "balanced_accuracy", "spearman")
            self._note(values | {f"validation/{key}": line.get(f"validation_{key}") for key in scores})
        elif event == "scores":
            self._note(_scores(line["validation"], line["test"]))
            self._end(failed=False)
        if event != "step" or time.monotonic() - self._flushed >= _FLUSH_EVERY_S:
            self._flush()

    def ended(self, record: RunRecord) -> None:
        """Hand on the scores and what they cost, and end the run in each tracker."""
        costs = {
            "seconds": record.seconds.total,
            "trainable_parameters": record.trainable_parameters,
            "shipped_bytes": record.adapter_bytes,
            "peak_memory_bytes": record.peak_memory_bytes,
        }
        scores = _scores(record.validation, record.test)
        self._note({**scores, **{f"cost/{key}": value for key, value in costs.items()}})
        self._end(failed=record.status == "failed")

    def close(self) -> None:
        """End what was begun: of a study that was stopped, the running run."""
        if self._running:
            self._end(failed=True)

    def _end(self, *, failed: bool) -> None:
        self._flush()
        self._each(lambda session: session.end(failed=failed))
        self._running = False

    def _note(self, values: Mapping[str, float | None]) -> None:
        known = {key: float(value) for key, value in values.items() if value is not None and math.isfinite(value)}
        self._points.append(Point(int(self._step), time.time(), known))

    def _flush(self) -> None:
        points, self._points = self._points, []
        if points:
            self._each(lambda session: session.log(points))
        self._flushed = time.monotonic()

    def _open(self) -> None:
        """Open what is not open yet; only now, since the study folder must be empty before its first run."""
        waiting, self._waiting = self._waiting, []
        for tracker in waiting:
            try:
                folder = self._folder / tracker.name
                folder.mkdir(parents=True, exist_ok=True)
                self._sessions[tracker.name] = tracker.open(folder, self._study)
            except Exception as error:
                self._give_up(tracker.name, error)
            else:
                self._say(f"--track {tracker.name} writes to {self._sessions[tracker.name].place}")

    def _each(self, call: Callable[[Session], None]) -> None:
        for name, session in list(self._sessions.items()):
            try:
                call(session)
            except Exception as error:  # whatever another package does; the study is worth more
                del self._sessions[name]
                self._give_up(name, error)
                with contextlib.suppress(Exception):
                    session.end(failed=True)

    def _give_up(self, name: str, error: Exception) -> None:
        self._say(f"--track {name} is given up, the rest goes on: {type(error).__name__}: {first_line(error)}")


def _scores(validation: Scores | None, test: Scores | None) -> dict[str, float | None]:
    """The scores of what was kept; apart from the curve of the epochs, since that need not be the last one."""
    return {
        f"{split}/{key}": value
        for split, metrics in (("validation_final", validation), ("test", test))
        if metrics is not None
        for key, value in metrics.model_dump().items()
    }


def _settings(nested: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """Dotted names of the values that are set, as something that every tracker can hold."""
    return {
        key: value if isinstance(value, (str, int, float, bool)) else json.dumps(value)
        for key, value in flat(nested).items()
        if value is not None
    }
