"""trackio: one project per study, in a SQLite file; ``TRACKIO_DIR`` and ``TRACKIO_SPACE_ID`` override this.

View it with ``TRACKIO_DIR=OUT/track/trackio trackio show``. trackio reads its folder when it is loaded: a second study
of one process writes where the first one did.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path

from feathertune.track.tracker import Settings, Tracker, environment


class _Run:
    def __init__(self, folder: Path, study: str, run: str, settings: Settings) -> None:
        with environment(TRACKIO_DIR=str(folder)):
            import trackio
            from trackio.utils import TRACKIO_DIR

        self._trackio = trackio
        self.place = os.environ.get("TRACKIO_SPACE_ID") or str(TRACKIO_DIR)
        project, quiet = re.sub(r"[^\w-]+", "-", study), {"auto_log_gpu": False, "auto_log_cpu": False}
        with contextlib.redirect_stdout(io.StringIO()):  # stdout is for the result of the command
            self._run = trackio.init(project=project, name=run, config=dict(settings), embed=False, **quiet)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def finish(self, *, failed: bool) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self._trackio.finish()


TRACKIO = Tracker("trackio", ("trackio",), _Run)
