"""TensorBoard: a folder of event files for each run. ``tensorboard --logdir OUT/track/tensorboard`` shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from feathertune.track.tracker import Point, Tracker


class _Session:
    def __init__(self, folder: Path, study: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.place = str(folder)
        self._folder, self._make = folder, SummaryWriter
        self._run, self._settings = "", ""
        self._writer: Any = None

    def begin(self, run: str, settings: Mapping[str, str | int | float | bool]) -> None:
        self._run = run
        self._settings = "\n".join(f"    {key}: {value}" for key, value in settings.items())

    def log(self, points: Sequence[Point]) -> None:
        if self._writer is None:
            # What a run that was stopped wrote from here on is hidden.
            self._writer = self._make(str(self._folder / self._run), purge_step=points[0].step)
            self._writer.add_text("settings", self._settings, points[0].step, points[0].time_s)
        for point in points:
            for name, value in point.values.items():
                self._writer.add_scalar(name, value, point.step, point.time_s)

    def end(self, *, failed: bool) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


TENSORBOARD = Tracker("tensorboard", ("tensorboard",), _Session)
