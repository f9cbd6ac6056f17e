"""Texts of all clients in common passes: who waits, who goes next, who is told to come again.

Requests come from an event loop; one thread tokenises and runs passes, so that nothing below needs a lock. While a pass
runs, new texts gather; the next one takes the oldest text and those that it is cheapest to run with it, of any model on
the same lane. If too few wait, it waits for more, but never longer than a budget, and not at all where as many clients
wait as the last pass has answered: a single client never waits for others. Knows neither HTTP nor torch.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from feathertune.data.batching import cut_widths
from feathertune.serve.limits import Limits

# What a pass costs beside its tokens, as tokens: launching some hundred small operations. Measured on MiniLM:
# benchmarks/LOG.md.
PASS_TOKENS = 96
_RATE_KEEPS = 0.8  # of the running mean of texts a second, from pass to pass
_MAX_RETRY_AFTER_S = 60
_MAX_LANES = 256

_log = logging.getLogger("feathertune.serve")


class Model(Protocol):
    """What a text is for."""

    @property
    def lane(self) -> Hashable:
        """Equal for models whose texts can be in one pass."""


class Row(Protocol):
    """A text, ready to be run."""

    @property
    def width(self) -> int:
        """Tokens to which it would be padded alone."""


M = TypeVar("M", bound=Model)
R = TypeVar("R", bound=Row)
A = TypeVar("A")
M_contra = TypeVar("M_contra", bound=Model, contravariant=True)
A_co = TypeVar("A_co", covariant=True)


class Work(Protocol[M_contra, R, A_co]):
    """What is done in the thread."""

    def encode(self, model: M_contra, texts: Sequence[str]) -> Sequence[R]:
        """Make rows of texts."""

    def run(self, rows: Sequence[tuple[M_contra, R]]) -> Sequence[A_co]:
        """One pass over rows of one lane: an answer for each."""


@dataclass(frozen=True)
class PassInfo:
    """What one pass was."""

    n_texts: int
    n_models: int
    n_padded_tokens: int
    seconds: float


class QueueFull(Exception):
    """So many texts wait that no more are taken."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"too many texts wait; come again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Stopping(Exception):
    """No more texts are taken."""


@dataclass(eq=False)
class _Job(Generic[M, A]):
    """One request."""

    model: M
    texts: Sequence[str]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[list[A]]
    arrived: float
    answers: dict[int, A] = field(default_factory=dict)
    dropped: bool = False


@dataclass(eq=False)
class _Waiting(Generic[M, R, A]):
    """One text of a request."""

    job: _Job[M, A]
    index: int
    row: R


class Batcher(Generic[M, R, A]):
    """The queue and the thread.

    Args:
        work: What the thread does.
        limits: Budgets and the queue's size.
        on_pass: Told of each pass, in the thread.
    """

    def __init__(
        self, work: Work[M, R, A], limits: Limits, *, on_pass: Callable[[PassInfo], None] = lambda info: None
    ) -> None:
        self._work, self._limits, self._on_pass = work, limits, on_pass
        self._changed = threading.Condition()  # guards the six below
        self._inbox: list[_Job[M, A]] = []
        self._calls: list[Callable[[], None]] = []
        self._n_waiting = 0
        self._any_dropped = False
        self._closing = False
        self._texts_per_s = 0.0
        # The thread's own.
        self._lanes: dict[Hashable, list[_Waiting[M, R, A]]] = {}
        self._answered: dict[Hashable, int] = {}
        self._thread = threading.Thread(target=self._loop, name="feathertune-passes", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread works."""
        return self._thread.is_alive()

    @property
    def n_waiting(self) -> int:
        """Texts that wait."""
        return self._n_waiting

    async def submit(self, model: M, texts: Sequence[str]) -> list[A]:
        """Have texts run, and wait for it.

        Returns:
            An answer for each text.

        Raises:
            QueueFull: If too many texts wait already.
            Stopping: If no more texts are taken.
            TimeoutError: If it took too long.
        """
        loop = asyncio.get_running_loop()
        job: _Job[M, A] = _Job(model, texts, loop, loop.create_future(), time.monotonic())
        with self._changed:
            if self._closing:
                raise Stopping
            if self._n_waiting + len(texts) > self._limits.queue_texts:
                raise QueueFull(self._retry_after_s())
            self._n_waiting += len(texts)
            self._inbox.append(job)
            self._changed.notify()
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                return await job.future
        finally:
            if len(job.answers) < len(texts):  # too late, or the client is gone
                with self._changed:
                    job.dropped = self._any_dropped = True
                    self._changed.notify()

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401 - any function
        """Run something in the thread, between two passes."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def run() -> None:
            try:
                result = function(*arguments)
            except Exception as error:
                _tell(loop, [(future, None, error)])
            else:
                _tell(loop, [(future, result, None)])

        with self._changed:
            if self._closing:
                raise Stopping
            self._calls.append(run)
            self._changed.notify()
        return await future

    async def close(self) -> None:
        """Take no more, finish what was taken, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def _retry_after_s(self) -> int:
        rate = self._texts_per_s
        return max(1, min(_MAX_RETRY_AFTER_S, round(self._n_waiting / rate))) if rate else 1

    def _loop(self) -> None:
        while True:
            with self._changed:
                while not (self._inbox or self._calls or self._lanes or self._closing):
                    self._changed.wait()
                jobs, self._inbox = self._inbox, []
                calls, self._calls = self._calls, []
                any_dropped, self._any_dropped = self._any_dropped, False
                if self._closing and not (jobs or calls or self._lanes):
                    return
            for call in calls:
                call()
            for job in jobs:
                self._take(job)
            if any_dropped:
                self._leave_out_dropped()
            self._go_on()

    def _take(self, job: _Job[M, A]) -> None:
        """Tokenise a request, and put its texts on their lane."""
        if job.dropped:
            self._forget(len(job.texts))
            return
        try:
            rows = self._work.encode(job.model, job.texts)
        except Exception as error:
            _log.exception("texts could not be tokenised")
            self._forget(len(job.texts))
            _tell(job.loop, [(job.future, None, error)])
            return
        lane = self._lanes.setdefault(job.model.lane, [])
        lane += [_Waiting(job, index, row) for index, row in enumerate(rows)]

    def _leave_out_dropped(self) -> None:
        for name, lane in list(self._lanes.items()):
            kept = [text for text in lane if not text.job.dropped]
            self._forget(len(lane) - len(kept))
            self._put_back(name, kept)

    def _put_back(self, name: Hashable, lane: list[_Waiting[M, R, A]]) -> None:
        if lane:
            self._lanes[name] = lane
        else:
            self._lanes.pop(name, None)

    def _forget(self, n_texts: int) -> None:
        with self._changed:
            self._n_waiting -= n_texts

    def _go_on(self) -> None:
        """Run the pass that is due, or wait until one is, or until something comes."""
        patience = [(self._patience_s(name, lane), name) for name, lane in self._lanes.items()]
        if not patience:
            return
        due = [name for left_s, name in patience if left_s <= 0]
        if due:
            self._pass(min(due, key=lambda name: self._lanes[name][0].job.arrived))
            return
        with self._changed:
            if not (self._inbox or self._calls or self._closing or self._any_dropped):
                self._changed.wait(min(left_s for left_s, _ in patience))

    def _patience_s(self, name: Hashable, lane: list[_Waiting[M, R, A]]) -> float:
        """How much longer a lane should wait for more texts."""
        if self._closing or sum(text.row.width for text in lane) >= self._limits.token_budget:
            return 0.0
        if len({id(text.job) for text in lane}) >= self._answered.get(name, 1):
            return 0.0
        return lane[0].job.arrived + self._limits.latency_budget_s - time.monotonic()

    def _choose(self, lane: list[_Waiting[M, R, A]]) -> list[_Waiting[M, R, A]]:
        """The oldest text, and those that are cheapest to run with it, in the order in which they came."""
        budget = self._limits.token_budget
        counts = Counter(text.row.width for text in lane)
        groups = cut_widths(counts, token_budget=budget, pass_tokens=PASS_TOKENS)
        widths = next(group for group in groups if lane[0].row.width in group)
        return [text for text in lane if text.row.width in widths][: max(1, budget // widths[-1])]

    def _pass(self, name: Hashable) -> None:
        lane = self._lanes[name]
        chosen = self._choose(lane)
        start = time.monotonic()
        rows = [(text.job.model, text.row) for text in chosen]
        answers: Sequence[A] = ()
        failure: Exception | None = None
        try:
            answers = self._work.run(rows)
        except Exception as error:
            _log.exception("a pass failed")
            failure = error
        seconds = time.monotonic() - start
        taken = set(map(id, chosen))
        failed = {id(text.job) for text in chosen} if failure is not None else set()
        kept = [text for text in lane if id(text) not in taken and id(text.job) not in failed]
        self._forget(len(lane) - len(kept))
        self._put_back(name, kept)
        rate = len(chosen) / max(seconds, 1e-6)
        self._texts_per_s = _RATE_KEEPS * self._texts_per_s + (1 - _RATE_KEEPS) * rate if self._texts_per_s else rate
        models = {id(model) for model, _ in rows}
        widest = max(text.row.width for text in chosen)
        # First: whoever has an answer finds its pass counted.
        self._on_pass(PassInfo(len(chosen), len(models), widest * len(chosen), seconds))
        self._answer(name, chosen, answers, failure)

    def _answer(
        self, name: Hashable, chosen: list[_Waiting[M, R, A]], answers: Sequence[A], failure: Exception | None
    ) -> None:
        """Give whole requests their answers, each loop's in one go."""
        jobs = {id(text.job): text.job for text in chosen}
        if failure is None:
            for text, answer in zip(chosen, answers, strict=True):
                text.job.answers[text.index] = answer
        told: dict[asyncio.AbstractEventLoop, list[Any]] = {}
        for job in jobs.values():
            if failure is not None:
                told.setdefault(job.loop, []).append((job.future, None, failure))
            elif len(job.answers) == len(job.texts):
                whole = [job.answers[index] for index in range(len(job.texts))]
                told.setdefault(job.loop, []).append((job.future, whole, None))
        if len(self._answered) > _MAX_LANES:  # lanes of bundles that are gone
            self._answered.clear()
        self._answered[name] = sum(map(len, told.values()))
        for loop, messages in told.items():
            _tell(loop, messages)


def _tell(loop: asyncio.AbstractEventLoop, messages: list[tuple[asyncio.Future[Any], Any, Exception | None]]) -> None:
    def tell() -> None:
        for future, result, error in messages:
            if future.done():  # given up, or the client is gone
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    try:
        loop.call_soon_threadsafe(tell)
    except RuntimeError:  # the loop is closed: nobody waits any more
        _log.warning("an answer came after its loop was closed")
