"""Weights & Biases: offline runs, one group per study. Upload with ``wandb sync OUT/track/wandb/offline-run-*``.

``WANDB_MODE``, ``WANDB_DIR``, ``WANDB_PROJECT`` and ``WANDB_RUN_GROUP`` override this.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from feathertune.track.tracker import Settings, Tracker, environment


class _Run:
    def __init__(self, folder: Path, study: str, run: str, settings: Settings) -> None:
        place = Path(os.environ.get("WANDB_DIR") or folder.parent)  # wandb adds its own name
        self.place = str(place / "wandb")
        quiet = {"silent": True, "console": "off", "disable_git": True, "save_code": False, "x_disable_stats": True}
        # No error reports to its makers, and no logs in the user's home.
        with environment(WANDB_ERROR_REPORTING="false", WANDB_CACHE_DIR=str(folder / "cache")):
            import wandb

            self._run = wandb.init(
                mode=os.environ.get("WANDB_MODE") or "offline",
                dir=str(place),
                project=os.environ.get("WANDB_PROJECT") or "feathertune",
                group=os.environ.get("WANDB_RUN_GROUP") or study,
                name=run,
                config=dict(settings),
                settings=wandb.Settings(**quiet),
            )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def finish(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


WANDB = Tracker("wandb", ("wandb",), _Run)
