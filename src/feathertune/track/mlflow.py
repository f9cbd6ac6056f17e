"""MLflow: an experiment a study, in a SQLite file. ``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME`` win over it.

``mlflow ui --backend-store-uri sqlite:///OUT/track/mlflow/mlflow.db`` shows it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from feathertune.track.tracker import Point, Tracker, environment

_AT_ONCE = 100  # parameters of one call; metrics may be ten times as many
_VALUE_CHARACTERS = 500  # what older servers hold of a parameter


class _Session:
    def __init__(self, folder: Path, study: str) -> None:
        with environment(MLFLOW_DISABLE_TELEMETRY="true"):  # it asks when it is loaded, and reports to its makers
            from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # it tells of every table that it makes
        self.place = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"
        self._client = MlflowClient(tracking_uri=self.place)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or study
        found = self._client.get_experiment_by_name(name)
        artifacts = None if "MLFLOW_TRACKING_URI" in os.environ else (folder / "artifacts").as_uri()
        self._experiment = (
            found.experiment_id
            if found is not None
            else self._client.create_experiment(name, artifact_location=artifacts)
        )
        self._run = ""

    def begin(self, run: str, settings: Mapping[str, str | int | float | bool]) -> None:
        from mlflow.entities import Param

        self._run = self._client.create_run(self._experiment, run_name=run).info.run_id
        params = [Param(key, str(value)[:_VALUE_CHARACTERS]) for key, value in settings.items()]
        for start in range(0, len(params), _AT_ONCE):
            self._client.log_batch(self._run, params=params[start : start + _AT_ONCE])

    def log(self, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, round(1000 * point.time_s), point.step)
            for point in points
            for name, value in point.values.items()
        ]
        for start in range(0, len(metrics), 10 * _AT_ONCE):
            self._client.log_batch(self._run, metrics=metrics[start : start + 10 * _AT_ONCE])

    def end(self, *, failed: bool) -> None:
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


MLFLOW = Tracker("mlflow", ("mlflow", "sqlalchemy", "alembic"), _Session)
