"""TensorBoard: a folder of event files for each run. View it with ``tensorboard --logdir OUT/track/tensorboard``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from feathertune.track.tracker import Settings, Tracker


class _Run:
    def __init__(self, folder: Path, study: str, run: str, settings: Settings) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.place, self._run, self._make = str(folder), str(folder / run), SummaryWriter
        self._settings = "\n".join(f"    {key}: {value}" for key, value in settings.items())
        self._writer: Any = None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if self._writer is None:  # only now, since later steps of a first attempt are hidden
            self._writer = self._make(self._run, purge_step=step)
            self._writer.add_text("settings", self._settings, step)
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def finish(self, *, failed: bool) -> None:
        if self._writer is not None:
            self._writer.close()


TENSORBOARD = Tracker("tensorboard", ("tensorboard",), _Run)
