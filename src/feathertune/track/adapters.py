"""Adapters for TensorBoard, MLflow, Weights & Biases and trackio.

Their environment variables override the defaults here; docs/tracking.md lists them.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from feathertune.track.tracker import Settings, Tracker, environment

# Maximum parameters or metrics per call of MLflow, and characters per parameter: limits of older servers.
_AT_ONCE, _CHARACTERS = 100, 500


class _TensorBoardRun:
    def __init__(self, folder: Path, study: str, run: str, settings: Settings) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.place, self._run, self._make = str(folder), str(folder / run), SummaryWriter
        self._settings = "\n".join(f"    {key}: {value}" for key, value in settings.items())
        self._writer: Any = None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if self._writer is None:  # created late: `purge_step` hides later steps of an earlier attempt
            self._writer = self._make(self._run, purge_step=step)
            self._writer.add_text("settings", self._settings, step)
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def finish(self, *, failed: bool) -> None:
        if self._writer is not None:
            self._writer.close()


class _MLflowRun:
    def __init__(self, folder: Path, study: str, run: str, settings: Settings) -> None:
        with environment(MLFLOW_DISABLE_TELEMETRY="true"):  # read at import
            from mlflow import entities
            from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # it logs each table it creates
        given = os.environ.get("MLFLOW_TRACKING_URI")
        self.place = given or f"sqlite:///{folder / 'mlflow.db'}"
        self._client, self._metric = MlflowClient(tracking_uri=self.place), entities.Metric
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or study
        found = self._client.get_experiment_by_name(name)
        artifacts = None if given else (folder / "artifacts").as_uri()
        experiment = found.experiment_id if found else self._client.create_experiment(name, artifacts)
        self._run = self._client.create_run(experiment, run_name=run).info.run_id
        self._waiting: list[entities.Metric] = []
        params = [entities.Param(key, str(value)[:_CHARACTERS]) for key, value in settings.items()]
        for start in range(0, len(params), _AT_ONCE):
            self._client.log_batch(self._run, params=params[start : start + _AT_ONCE])

    def log(self, step: int, values: Mapping[str, float]) -> None:
        now_ms = round(1000 * time.time())
        self._waiting += [self._metric(name, value, now_ms, step) for name, value in values.items()]
        if len(self._waiting) >= _AT_ONCE // 2:  # each call waits for the disk
            self._flush()

    def finish(self, *, failed: bool) -> None:
        self._flush()
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._client.log_batch(self._run, metrics=waiting)


class _WandbRun:
    def __init__(self, folder: Path, study: str, run: str, settings: Settings) -> None:
        place = Path(os.environ.get("WANDB_DIR") or folder.parent)  # wandb adds its own name
        self.place = str(place / "wandb")
        quiet = {"silent": True, "console": "off", "disable_git": True, "save_code": False, "x_disable_stats": True}
        # Send no error reports, and write no logs into the user's home.
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


class _TrackioRun:
    def __init__(self, folder: Path, study: str, run: str, settings: Settings) -> None:
        with environment(TRACKIO_DIR=str(folder)):
            import trackio
            from trackio.utils import TRACKIO_DIR

        # trackio reads its folder at import, so a second study in the same process writes to the first one's folder.
        self._trackio = trackio
        self.place = os.environ.get("TRACKIO_SPACE_ID") or str(TRACKIO_DIR)
        project, quiet = re.sub(r"[^\w-]+", "-", study), {"auto_log_gpu": False, "auto_log_cpu": False}
        with contextlib.redirect_stdout(io.StringIO()):  # stdout is for the command's result
            self._run = trackio.init(project=project, name=run, config=dict(settings), embed=False, **quiet)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def finish(self, *, failed: bool) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self._trackio.finish()


ADAPTERS = (
    Tracker("tensorboard", ("tensorboard",), _TensorBoardRun),
    Tracker("mlflow", ("mlflow", "sqlalchemy", "alembic"), _MLflowRun),
    Tracker("wandb", ("wandb",), _WandbRun),
    Tracker("trackio", ("trackio",), _TrackioRun),
)
