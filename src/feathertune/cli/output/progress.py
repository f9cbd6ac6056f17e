"""Progress: a bar with the time left on a terminal or in a notebook, otherwise a line on stderr every 30 seconds."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.jupyter import JupyterMixin
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from feathertune.cli.output.terminal import PrintableConsole, printable
from feathertune.records import RunRecord
from feathertune.report.format import units
from feathertune.study.observe import Observer, Silent
from feathertune.study.run_spec import RunSpec
from feathertune.tasks import SCORES

_LINE_EVERY_S = 30.0
_DRAW_EVERY_S = 0.2  # in a notebook, where each drawing is a message to the browser


class _Work:
    """Count work, and estimate the time left from the speed so far."""

    def __init__(self) -> None:
        self._planned: dict[str, float] = {}
        self._done_before = 0.0
        self._of_run = 0.0
        self.running = ""
        self._measured = 0.0
        self._start = time.monotonic()

    def plan(self, work: dict[str, float], finished: list[RunRecord]) -> None:
        """Set each run's work; runs that finished earlier have none."""
        done = {record.id for record in finished}
        self._planned = {run: amount for run, amount in work.items() if run not in done}
        self._start = time.monotonic()

    def start(self, run: str) -> None:
        self.running, self._of_run = run, 0.0

    def advance(self, work: float) -> None:
        """Count work done, at most the run's planned work."""
        step = min(work, self._planned.get(self.running, 0.0) - self._of_run)
        self._of_run += step
        self._measured += step

    def skip(self, work: float) -> None:
        """Count work done by an earlier process, without counting it towards the speed."""
        self._of_run = min(self._of_run + work, self._planned.get(self.running, 0.0))

    def end(self, run: str) -> None:
        """End a run; if it stopped early, drop its remaining work."""
        self._done_before += self._planned.get(run, 0.0)
        self.running, self._of_run = "", 0.0

    @property
    def fraction(self) -> float:
        """Finished share of the planned work."""
        total = sum(self._planned.values())
        return (self._done_before + self._of_run) / total if total else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds left; None until some work has been measured."""
        if self._measured <= 0:
            return None
        left = sum(self._planned.values()) - self._done_before - self._of_run
        return left * (time.monotonic() - self._start) / self._measured

    def left_text(self) -> str:
        left = self.left_s
        return "" if left is None else f"about {units.seconds(left)} left"


def result_line(record: RunRecord) -> str:
    """Return one line with a run's result."""
    if record.status == "failed" or record.test is None:
        return f"{record.id}: failed after {units.seconds(record.seconds.total)}: {record.error}"
    seconds = units.seconds(record.seconds.total)
    early = f", best epoch {record.best_epoch} of {record.epochs}" if record.epochs else ""
    score = SCORES[record.metric]
    return f"{record.id}: {score.title} {score.format.score(score.of(record.test))} on the test rows, {seconds}{early}"


class _Lines(Silent):
    """Plain log lines."""

    def __init__(self) -> None:
        self._work = _Work()
        self._last = time.monotonic()

    def stage(self, text: str) -> None:
        self.said(text)

    def planned(self, work: dict[str, float], finished: list[RunRecord]) -> None:
        """Set the work, and print the runs that finished earlier."""
        self._work.plan(work, finished)
        for record in finished:
            self.said(f"{result_line(record)} (finished earlier)")

    def started(self, spec: RunSpec) -> None:
        self._work.start(spec.id)

    def advanced(self, work: float, text: str = "") -> None:
        """Print progress, at most every 30 seconds."""
        self._work.advance(work)
        if time.monotonic() - self._last >= _LINE_EVERY_S:
            self._last = time.monotonic()
            parts = (f"{self._work.fraction:.0%}", self._work.running, text, self._work.left_text())
            self.said(", ".join(part for part in parts if part))

    def skipped(self, work: float) -> None:
        self._work.skip(work)

    def said(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")

    def ended(self, record: RunRecord) -> None:
        self._work.end(record.id)
        self._last = time.monotonic()
        self.said(result_line(record))


class _Bar(_Lines):
    """A progress bar on a terminal, below the results of finished runs."""

    def __init__(self) -> None:
        super().__init__()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            TimeElapsedColumn(),
            console=PrintableConsole(file=getattr(sys.stderr, "stream", sys.stderr)),
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=1.0, left="")
        self.open()

    def open(self) -> None:
        self._progress.start()

    def close(self) -> None:
        self._progress.stop()

    def stage(self, text: str) -> None:
        self._progress.update(self._task, description=text)

    def started(self, spec: RunSpec) -> None:
        super().started(spec)
        self.stage(spec.id)

    def advanced(self, work: float, text: str = "") -> None:
        self._work.advance(work)
        self._move(f"{self._work.running}: {text}" if text else None)

    def skipped(self, work: float) -> None:
        super().skipped(work)
        self._move()

    def said(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def ended(self, record: RunRecord) -> None:
        super().ended(record)
        self._move()

    def _move(self, text: str | None = None) -> None:
        self._progress.update(self._task, description=text, completed=self._work.fraction, left=self._work.left_text())


class NotebookBar(_Bar, JupyterMixin):
    """A bar in the output of a notebook's cell, below the results of the runs; each drawing replaces the last."""

    def open(self) -> None:
        """Show the output, which `close` leaves with the results alone."""
        from IPython.display import display

        self._results: list[Text] = []
        self._is_open, self._drawn = True, time.monotonic()
        self._place: Any = display(self, display_id=True)

    def close(self) -> None:
        """Take the bar away."""
        self._is_open = False
        self._draw()

    def stage(self, text: str) -> None:
        """Name what begins, next to the bar."""
        super().stage(text)
        self._draw()

    def said(self, text: str) -> None:
        """Add a line above the bar."""
        self._results.append(Text(printable(text)))
        self._draw()

    def __rich__(self) -> RenderableType:
        return Group(*self._results, *([self._progress] if self._is_open else []))

    def _move(self, text: str | None = None) -> None:
        super()._move(text)
        if time.monotonic() - self._drawn >= _DRAW_EVERY_S:
            self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        self._place.update(self)


@contextlib.contextmanager
def observe(*, quiet: bool) -> Iterator[Observer]:
    """Report progress on stderr during the block: a bar on a terminal, otherwise lines."""
    if quiet or not sys.stderr.isatty():
        yield Silent() if quiet else _Lines()
        return
    bar = _Bar()
    try:
        yield bar
    finally:
        bar.close()
