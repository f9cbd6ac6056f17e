"""The state that all requests of one server share: bundles, queue, limits, token and counters."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from feathertune.runtime import give_memory_back
from feathertune.serve.batcher import Batcher
from feathertune.serve.limits import Limits
from feathertune.serve.metrics import Metrics
from feathertune.serve.models import Models, Served

A = TypeVar("A")


class Service:
    """A server without HTTP; without a token everyone can predict, and nobody can change the bundles."""

    def __init__(self, models: Models, limits: Limits, token: str | None = None) -> None:
        self.models, self.limits, self.token = models, limits, token
        self.metrics = Metrics(lambda: self.batcher.n_waiting, lambda: len(models))
        self.batcher = Batcher(models, limits, on_pass=self.metrics.saw_pass)
        self.stopping = False
        # Loading takes seconds: in parallel to passes, one bundle after the other.
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="feathertune-loader")
        self._loading = asyncio.Lock()

    def is_token(self, given: str) -> bool:
        """Compare in constant time."""
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

    async def put(self, name: str, path: Path, base: str | None) -> tuple[Served, bool]:
        """Load a bundle and let it answer; return it, and True if it replaced another."""
        async with self._loading:
            read = await self._in_loader(self.models.read, path, base)
            is_new = name not in self.models
            served: Served = await self.batcher.call(self.models.add, name, read)
            del read
            if not is_new:
                await self._in_loader(give_memory_back)
            return served, not is_new

    async def remove(self, name: str) -> None:
        """Let a bundle answer no more."""
        async with self._loading:
            self.models.remove(name)
            self.metrics.forget(name)
            await self._in_loader(give_memory_back)

    async def close(self) -> None:
        """Answer all waiting texts and end the threads."""
        self.stopping = True
        await self.batcher.close()
        self._loader.shutdown()

    async def _in_loader(self, function: Callable[..., A], *arguments: object) -> A:
        return await asyncio.get_running_loop().run_in_executor(self._loader, function, *arguments)
