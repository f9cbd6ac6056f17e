"""Prometheus metrics, with one registry per server."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from feathertune.serve.batcher import PassInfo

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_OTHER = "other"


class Metrics:
    """Metrics of one server."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, n_waiting: Callable[[], int], n_models: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)

        def made(kind: Any, name: str, meaning: str, **more: Any) -> Any:  # noqa: ANN401 - any metric
            return kind(f"feathertune_{name}", meaning, registry=self._registry, **more)

        self._requests = made(Counter, "requests", "Requests by route and status code.", labelnames=("route", "code"))
        self._seconds = made(
            Histogram, "request_seconds", "Seconds per request.", labelnames=("route",), buckets=_SECONDS
        )
        self._texts = made(Counter, "texts", "Classified texts.", labelnames=("model",))
        self._pass_texts = made(Histogram, "pass_texts", "Texts per pass.", buckets=_TEXTS)
        self._pass_models = made(Histogram, "pass_models", "Bundles per pass.", buckets=_TEXTS)
        self._pass_seconds = made(Histogram, "pass_seconds", "Seconds per pass.", buckets=_SECONDS)
        self._tokens = made(Counter, "padded_tokens", "Processed tokens, including padding.")
        made(Gauge, "waiting_texts", "Waiting texts.").set_function(n_waiting)
        made(Gauge, "models", "Loaded bundles.").set_function(n_models)

    def saw_pass(self, info: PassInfo) -> None:
        """Count a pass."""
        self._pass_texts.observe(info.n_texts)
        self._pass_models.observe(info.n_models)
        self._pass_seconds.observe(info.seconds)
        self._tokens.inc(info.n_padded_tokens)

    def saw_texts(self, model: str, n: int) -> None:
        """Count classified texts."""
        self._texts.labels(model).inc(n)

    def forget(self, model: str) -> None:
        """Drop the counter of a removed bundle."""
        with contextlib.suppress(KeyError):
            self._texts.remove(model)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def counting(self, app: ASGIApp) -> ASGIApp:
        """Return an app that counts requests by route, since clients can send any path."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            code = 500
            start = time.perf_counter()

            async def watched(message: Message) -> None:
                nonlocal code
                if message["type"] == "http.response.start":
                    code = message["status"]
                await send(message)

            try:
                await app(scope, receive, watched)
            finally:
                route = getattr(scope.get("route"), "path_format", _OTHER)
                self._requests.labels(route, str(code)).inc()
                self._seconds.labels(route).observe(time.perf_counter() - start)

        return counted
