"""Batch the texts of all clients into shared forward passes.

A few threads run passes in parallel, each on its own cores: a pass on all cores waits for the slowest core after each
matrix product. A pass waits for more texts, up to a latency budget. It starts at once if as many clients wait as
the last pass answered, so a single client never waits for others.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from feathertune.data.reading.texts import Text
from feathertune.data.tokens.batching import cut_widths
from feathertune.serve.limits import Limits

if TYPE_CHECKING:
    from feathertune.predictor import Answer
    from feathertune.serve.models import Models, Served, TextRow

# Fixed cost of a pass, in tokens: launching hundreds of small operations. Measured on MiniLM: benchmarks/LOG.md.
PASS_TOKENS = 96
_RATE_KEEPS = 0.8  # weight of earlier passes in the running mean of texts per second
_MAX_RETRY_AFTER_S = 60
_MAX_LANES = 256

_log = logging.getLogger("feathertune.serve")


@dataclass(frozen=True)
class PassInfo:
    """Statistics of one pass."""

    n_texts: int
    n_models: int
    n_padded_tokens: int
    seconds: float


class Refused(Exception):
    """Raised to refuse a request, with a status code, a reason and, if known, the seconds until a retry."""

    def __init__(self, status: int, detail: str, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.status, self.retry_after_s = status, retry_after_s


class QueueFull(Refused):
    """Raised if too many texts are waiting."""


class Stopping(Refused):
    """Raised if the server is stopping and accepts no more texts."""

    def __init__(self) -> None:
        super().__init__(503, "The server is stopping. Retry; another server may answer.", 5)


class NotFinite(Refused):
    """Replaces an answer that is not finite; only its own request fails."""

    def __init__(self, name: str) -> None:
        why = f"The bundle '{name}' computed NaN or infinity for one of these texts. Load a working bundle."
        super().__init__(500, why)


@dataclass(eq=False)
class _Job:
    model: Served
    texts: Sequence[Text]
    future: asyncio.Future[list[Answer]]
    arrived: float
    answers: dict[int, Answer | NotFinite] = field(default_factory=dict)
    dropped: bool = False


@dataclass(eq=False)
class _Waiting:
    job: _Job
    index: int
    row: TextRow


class Batcher:
    """Queue and worker threads; after each pass, one thread at a time calls `on_pass`."""

    def __init__(
        self, models: Models, limits: Limits, *, on_pass: Callable[[PassInfo], None] = lambda info: None
    ) -> None:
        self._models, self._limits, self._on_pass = models, limits, on_pass
        self._changed = threading.Condition()  # guards all fields below
        self._inbox: list[_Job] = []
        self._calls: list[Callable[[], None]] = []
        self._lanes: dict[Hashable, list[_Waiting]] = {}
        self._answered: dict[Hashable, int] = {}
        self.n_waiting = 0  # texts that are queued or running
        self._n_idle = 0
        self._n_passes = 0
        self._any_dropped = False
        self._closing = False
        self._texts_per_s = 0.0
        self._threads = [
            threading.Thread(target=self._loop, args=(worker,), name=f"feathertune-passes-{worker}", daemon=True)
            for worker in range(models.n_workers)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """True if all threads are running."""
        return all(thread.is_alive() for thread in self._threads)

    async def submit(self, model: Served, texts: Sequence[Text]) -> list[Answer]:
        """Queue texts and return one answer for each.

        Raises:
            QueueFull, Stopping, TimeoutError: If the queue is full, the server is stopping, or time is up.
        """
        job = _Job(model, texts, asyncio.get_running_loop().create_future(), time.monotonic())
        with self._changed:
            if self._closing:
                raise Stopping
            if self.n_waiting + len(texts) > self._limits.queue_texts:
                wait_s = self._retry_after_s()
                raise QueueFull(429, f"Too many texts are waiting. Retry in {wait_s} s.", wait_s)
            self.n_waiting += len(texts)
            self._inbox.append(job)
            self._changed.notify()
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                return await job.future
        finally:
            if len(job.answers) < len(texts):  # timed out, or the client disconnected
                with self._changed:
                    job.dropped = self._any_dropped = True
                    self._changed.notify()

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401 - any function
        """Call a function in the first thread, between two passes."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def run() -> None:
            try:
                _tell([(future, function(*arguments), None)])
            except Exception as error:
                _tell([(future, None, error)])

        with self._changed:
            if self._closing:
                raise Stopping
            self._calls.append(run)
            self._changed.notify_all()  # only the first takes it
        return await future

    async def close(self) -> None:
        """Accept no more texts, finish the waiting ones, and stop the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            await asyncio.get_running_loop().run_in_executor(None, thread.join)

    def _retry_after_s(self) -> int:
        rate = self._texts_per_s * len(self._threads)
        return max(1, min(_MAX_RETRY_AFTER_S, round(self.n_waiting / rate))) if rate else 1

    def _loop(self, worker: int) -> None:
        while True:
            with self._changed:
                while (task := self._next(worker)) is None:
                    if self._closing and not (self._inbox or self._calls or self._lanes):
                        self._changed.notify_all()  # let the other threads stop too
                        return
                    self._n_idle += 1
                    self._changed.wait(min((self._patience_s(*lane) for lane in self._lanes.items()), default=None))
                    self._n_idle -= 1
            task()

    def _next(self, worker: int) -> Callable[[], None] | None:
        """Return a thread's next task; the caller must hold the lock."""
        if worker == 0 and self._calls:
            return self._calls.pop(0)
        if self._inbox:
            jobs, self._inbox = self._inbox, []
            return lambda: self._take(jobs)
        if self._any_dropped:
            self._any_dropped = False
            self._leave_out(lambda job: job.dropped)
        due = [name for name, lane in self._lanes.items() if self._patience_s(name, lane) <= 0]
        if not due:
            return None
        name = min(due, key=lambda name: self._lanes[name][0].job.arrived)
        lane = self._lanes[name]
        chosen = self._choose(lane)
        taken = set(map(id, chosen))
        self._put_back(name, [text for text in lane if id(text) not in taken])
        self._n_passes += 1
        alone = self._n_passes == 1 and not (self._lanes or self._inbox)
        if self._lanes:
            self._changed.notify()  # wake another thread for the rest
        return lambda: self._pass(name, chosen, worker, alone=alone)

    def _take(self, jobs: Sequence[_Job]) -> None:
        """Tokenize requests and queue their texts by lane."""
        for job in jobs:
            rows: Sequence[TextRow] = ()
            failure: Exception | None = None
            if not job.dropped:
                try:
                    rows = self._models.encode(job.model, job.texts)
                except Exception as error:
                    _log.exception("texts could not be tokenized")
                    failure = error
            with self._changed:
                if job.dropped:  # dropped in the meantime
                    rows = ()
                self.n_waiting -= len(job.texts) - len(rows)
                if rows:
                    lane = self._lanes.setdefault(job.model.lane, [])
                    lane += [_Waiting(job, index, row) for index, row in enumerate(rows)]
            if failure is not None:
                _tell([(job.future, None, failure)])

    def _leave_out(self, is_out: Callable[[_Job], bool]) -> None:
        for name, lane in list(self._lanes.items()):
            kept = [text for text in lane if not is_out(text.job)]
            self.n_waiting -= len(lane) - len(kept)
            self._put_back(name, kept)

    def _put_back(self, name: Hashable, lane: list[_Waiting]) -> None:
        if lane:
            self._lanes[name] = lane
        else:
            self._lanes.pop(name, None)

    def _patience_s(self, name: Hashable, lane: list[_Waiting]) -> float:
        """Return how many seconds a lane should still wait for more texts."""
        if self._closing or sum(text.row.width for text in lane) >= self._limits.token_budget:
            return 0.0
        if len({id(text.job) for text in lane}) >= self._answered.get(name, 1):
            return 0.0
        return lane[0].job.arrived + self._limits.latency_budget_s - time.monotonic()

    def _choose(self, lane: list[_Waiting]) -> list[_Waiting]:
        """Return the oldest text and the texts that are cheapest to batch with it, in order of arrival."""
        budget = self._limits.token_budget
        if self._n_idle:  # leave a share for idle threads
            budget = min(budget, -(-sum(text.row.width for text in lane) // (self._n_idle + 1)))
        counts = Counter(text.row.width for text in lane)
        share = lane[0].job.model.padding_share
        groups = cut_widths(counts, token_budget=budget, pass_tokens=PASS_TOKENS, padding_share=share)
        widths = next(group for group in groups if lane[0].row.width in group)
        return [text for text in lane if text.row.width in widths][: max(1, budget // widths[-1])]

    def _pass(self, name: Hashable, chosen: list[_Waiting], worker: int, *, alone: bool) -> None:
        start = time.monotonic()
        rows = [(text.job.model, text.row) for text in chosen]
        answers: Sequence[Answer | NotFinite] = ()
        failure: Exception | None = None
        try:
            answers = self._models.run(rows, worker=worker, alone=alone)
        except Exception as error:
            _log.exception("a pass failed")
            failure = error
        seconds = time.monotonic() - start
        widest = max(text.row.width for text in chosen)
        info = PassInfo(len(chosen), len({id(model) for model, _ in rows}), widest * len(chosen), seconds)
        with self._changed:
            self._n_passes -= 1
            self.n_waiting -= len(chosen)
            if failure is not None:
                failed = {id(text.job) for text in chosen}
                self._leave_out(lambda job: id(job) in failed)
            rate = len(chosen) / max(seconds, 1e-6)
            kept = _RATE_KEEPS if self._texts_per_s else 0.0
            self._texts_per_s = kept * self._texts_per_s + (1 - kept) * rate
            self._on_pass(info)  # before answering, so every answered pass is counted
            self._answer(name, chosen, answers, failure)

    def _answer(
        self, name: Hashable, chosen: list[_Waiting], answers: Sequence[Answer | NotFinite], failure: Exception | None
    ) -> None:
        """Answer the requests that are complete."""
        if failure is None:
            for text, answer in zip(chosen, answers, strict=True):
                text.job.answers[text.index] = answer
        told: list[_Message] = []
        for job in {id(text.job): text.job for text in chosen}.values():
            if failure is not None:
                told.append((job.future, None, failure))
            elif len(job.answers) == len(job.texts):
                whole = [job.answers[index] for index in range(len(job.texts))]
                bad = next((answer for answer in whole if isinstance(answer, NotFinite)), None)
                told.append((job.future, None if bad else whole, bad))
        if len(self._answered) > _MAX_LANES:  # lanes of removed bundles
            self._answered.clear()
        self._answered[name] = len(told)
        _tell(told)


_Message = tuple[asyncio.Future[Any], Any, Exception | None]


def _tell(messages: list[_Message]) -> None:
    """Set results or exceptions of pending futures from another thread, with one call per event loop."""

    def set_all(loop: asyncio.AbstractEventLoop) -> None:
        for future, result, error in messages:
            if future.get_loop() is not loop or future.done():  # timed out, or the client disconnected
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    for loop in {future.get_loop() for future, _, _ in messages}:
        try:
            loop.call_soon_threadsafe(set_all, loop)
        except RuntimeError:  # the loop is closed, so no client is waiting
            _log.warning("an answer arrived after its event loop closed")
