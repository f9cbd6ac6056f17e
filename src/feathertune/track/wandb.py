"""Weights & Biases, offline unless ``WANDB_MODE`` says otherwise. ``wandb sync OUT/track/wandb/offline-run-*`` uploads.

Runs of a study are one group of the project ``feathertune``. Its other variables (``WANDB_DIR``, ``WANDB_PROJECT``,
``WANDB_RUN_GROUP``) win, too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from feathertune.track.tracker import Point, Tracker, environment


class _Session:
    def __init__(self, folder: Path, study: str) -> None:
        # Its errors go to its makers, and its logs to the user's home, unless it is told so before it starts.
        self._apart = {"WANDB_ERROR_REPORTING": "false", "WANDB_CACHE_DIR": str(folder / "cache")}
        with environment(**self._apart):
            import wandb

        self._wandb = wandb
        self._folder = Path(os.environ.get("WANDB_DIR") or folder.parent)  # wandb adds its own name
        self.place = str(self._folder / "wandb")
        self._study = study
        self._run: Any = None

    def begin(self, run: str, settings: Mapping[str, str | int | float | bool]) -> None:
        quiet = {"silent": True, "console": "off", "disable_git": True, "save_code": False, "x_disable_stats": True}
        with environment(**self._apart):
            self._run = self._wandb.init(
                mode=os.environ.get("WANDB_MODE") or "offline",
                dir=str(self._folder),
                project=os.environ.get("WANDB_PROJECT") or "feathertune",
                group=os.environ.get("WANDB_RUN_GROUP") or self._study,
                name=run,
                config=dict(settings),
                settings=self._wandb.Settings(**quiet),
            )

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            self._run.log(dict(point.values), step=point.step)

    def end(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


WANDB = Tracker("wandb", ("wandb",), _Session)
