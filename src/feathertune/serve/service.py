"""The state that all requests of one server share: bundles, queue, limits, token and counters."""

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
    """A server without HTTP; without a token everyone can predict, and nobody can change the bundles."""

    def __init__(
        self, models: Models, limits: Limits, token: str | None = None, hosts: AllowedHosts | None = None
    ) -> None:
        self.models, self.limits, self.token, self.hosts = models, limits, token, hosts
        self.metrics = Metrics(lambda: self.batcher.n_waiting, lambda: len(models))
        self.batcher = Batcher(models, limits, on_pass=self.metrics.saw_pass)
        self.stopping = False
        self.n_bodies = 0  # that were read
        self._loading = asyncio.Lock()
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="feathertune-loader")
        self._load: Future[Any] | None = None  # the running load
        self._read: asyncio.Future[Any] | None = None  # waits for it

    def is_token(self, given: str) -> bool:
        """Compare in constant time."""
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

    @property
    def is_loading(self) -> bool:
        """True if a thread loads a bundle, whether or not anybody still waits for it."""
        return self._load is not None and not self._load.done()

    async def put(self, name: str, path: Path, base: str | None) -> tuple[Served, bool]:
        """Load a bundle and let it answer; return it, and True if it replaced another.

        Raises:
            Refused: If it cannot be loaded now.
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
        """Let a bundle answer no more."""
        self.models.remove(name)
        self.metrics.forget(name)
        await asyncio.to_thread(_let_go)

    def stop_loading(self) -> None:
        """Give up a load that is going on."""
        if self._read is not None:
            self._read.cancel()

    async def close(self) -> None:
        """Answer all waiting texts and end the threads."""
        self.stopping = True
        self.stop_loading()
        await self.batcher.close()

    async def _load_within_limit(self, path: Path, base: str | None) -> Any:  # noqa: ANN401 - `Models.read`'s
        """Read a bundle in a separate thread, which may hang without holding up the rest."""
        if self.stopping:
            raise Stopping
        if self.is_loading:
            raise Refused(503, "An earlier bundle is still being loaded, though it took too long. Try again later.", 5)
        load = self._load = self._loader.submit(self.models.read, path, base)
        read = self._read = asyncio.wrap_future(load)
        load.add_done_callback(self._forget_load)
        await asyncio.wait((read,), timeout=self.limits.load_s)
        self._read = None
        if not read.done():
            read.cancel()
            limit = f"{self.limits.load_s:g} s (--load-s)"
            raise Refused(504, f"The bundle was not loaded within {limit}. What answered before still does.")
        if read.cancelled():
            raise Stopping
        return read.result()

    def _forget_load(self, load: Future[Any]) -> None:
        if self._load is load:  # the next may have begun
            self._load = None  # which would hold the bundle


def _let_go() -> None:
    """Free a bundle that is gone, even if it is older than `gc_frozen`."""
    is_frozen = gc.get_freeze_count() > 0
    gc.unfreeze()
    give_memory_back()
    if is_frozen:
        gc.freeze()
