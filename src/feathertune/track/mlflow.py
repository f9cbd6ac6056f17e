"""MLflow: one experiment per study, in a SQLite file.

``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME`` override this. View it with
``mlflow ui --backend-store-uri sqlite:///OUT/track/mlflow/mlflow.db``.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path

from feathertune.track.tracker import Settings, Tracker, environment

# Parameters or metrics of one call, and characters of a parameter: limits of older servers.
_AT_ONCE, _CHARACTERS = 100, 500


class _Run:
    def __init__(self, folder: Path, study: str, run: str, settings: Settings) -> None:
        with environment(MLFLOW_DISABLE_TELEMETRY="true"):  # read when it is loaded
            from mlflow import entities
            from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # it logs every table that it makes
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


MLFLOW = Tracker("mlflow", ("mlflow", "sqlalchemy", "alembic"), _Run)
