"""State shared by all requests of a server: bundles, queue, limits, token and metrics."""

from __future__ import annotations

import asyncio
import gc
import hmac
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from feathertune.runtime import give_memory_back
from feathertune.serve.batcher import Batcher, Refused, Stopping
from feathertune.serve.hosts import AllowedHosts
from feathertune.serve.limits import Limits
from feathertune.serve.metrics import Metrics
from feathertune.serve.models import Models, Served


class Service:
    """A server without its HTTP layer; without a token, anyone can predict and no one can change bundles."""

    def __init__(
        self, models: Models, limits: Limits, token: str | None = None, hosts: AllowedHosts | None = None
    ) -> None:
        self.models, self.limits, self.token, self.hosts = models, limits, token, hosts
        self.metrics = Metrics(lambda: self.batcher.n_waiting, lambda: len(models))
        self.batcher = Batcher(models, limits, on_pass=self.metrics.saw_pass)
        self.stopping = False
        self.n_bodies = 0  # number of bodies read
        self._loading = asyncio.Lock()
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="feathertune-loader")
        self._load: Future[Any] | None = None  # the running load
        self._read: asyncio.Future[Any] | None = None  # waits for `_load`

    def is_token(self, given: str) -> bool:
        """Compare a token in constant time."""
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

    @property
    def is_loading(self) -> bool:
        """True if a thread is loading a bundle, even if no request waits for it any more."""
        return self._load is not None and not self._load.done()

    async def put(self, name: str, path: Path, base: str | None) -> tuple[Served, bool]:
        """Load and serve a bundle; return it, and True if it replaced another.

        Raises:
            Refused: If the bundle cannot be loaded now.
        """
        async with self._loading:
            read = await self._load_within_limit(path, base)
            is_new = name not in self.models
            served: Served = await self.batcher.call(self.models.add, name, read)
            del read
        if not is_new:
            await asyncio.to_thread(_let_go)
        return served, not is_new

    async def remove(self, name: str) -> None:
        """Stop serving a bundle."""
        self.models.remove(name)
        self.metrics.forget(name)
        await asyncio.to_thread(_let_go)

    def stop_loading(self) -> None:
        """Cancel a running load."""
        if self._read is not None:
            self._read.cancel()

    async def close(self) -> None:
        """Answer all waiting texts and stop the threads."""
        self.stopping = True
        self.stop_loading()
        await self.batcher.close()

    async def _load_within_limit(self, path: Path, base: str | None) -> Any:  # noqa: ANN401 - `Models.read`'s
        """Read a bundle in a separate thread, so a hanging load blocks nothing else."""
        if self.stopping:
            raise Stopping
        if self.is_loading:
            raise Refused(503, "An earlier bundle exceeded its time limit and is still loading. Retry later.", 5)
        load = self._load = self._loader.submit(self.models.read, path, base)
        read = self._read = asyncio.wrap_future(load)
        load.add_done_callback(self._forget_load)
        await asyncio.wait((read,), timeout=self.limits.load_s)
        self._read = None
        if not read.done():
            read.cancel()
            limit = f"{self.limits.load_s:g} s (--load-s)"
            raise Refused(504, f"The bundle did not load within {limit}. The bundles loaded before still answer.")
        if read.cancelled():
            raise Stopping
        return read.result()

    def _forget_load(self, load: Future[Any]) -> None:
        if self._load is load:  # the next load may have started
            self._load = None  # a reference would keep the bundle in memory


def _let_go() -> None:
    """Free a removed bundle, even if it is older than `gc_frozen`."""
    is_frozen = gc.get_freeze_count() > 0
    gc.unfreeze()
    give_memory_back()
    if is_frozen:
        gc.freeze()
