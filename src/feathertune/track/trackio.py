"""trackio: a project a study, in a SQLite file. ``TRACKIO_DIR`` and ``TRACKIO_SPACE_ID`` win over it.

``TRACKIO_DIR=OUT/track/trackio trackio show`` shows it. trackio reads where to write when it is loaded: a second study
of one process goes where the first one went, and that place is said.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from feathertune.track.tracker import Point, Tracker, environment


class _Session:
    def __init__(self, folder: Path, study: str) -> None:
        with environment(TRACKIO_DIR=str(folder)):
            import trackio
            from trackio.utils import TRACKIO_DIR

        self._trackio = trackio
        self.place = os.environ.get("TRACKIO_SPACE_ID") or str(TRACKIO_DIR)
        self._project = re.sub(r"[^\w-]+", "-", study)
        self._run: Any = None

    def begin(self, run: str, settings: Mapping[str, str | int | float | bool]) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # that is where a command's result goes
            self._run = self._trackio.init(
                project=self._project,
                name=run,
                config=dict(settings),
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            self._run.log(dict(point.values), step=point.step)

    def end(self, *, failed: bool) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self._trackio.finish()


TRACKIO = Tracker("trackio", ("trackio",), _Session)
