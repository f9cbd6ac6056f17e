"""A real server in this process, with limits that tests reach in a second, and a client that sends any bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from feathertune.serve.limits import Limits
from serving import FakeModels, fakes

TOKEN = "a-long-secret"
LIMITS = replace(
    Limits(), header_s=0.5, body_s=0.5, idle_s=0.5, answer_s=0.5, load_s=0.5, connections=20, drain_s=0.0, timeout_s=5.0
)
HOST = b"Host: 127.0.0.1\r\n"
BODY = b'{"texts": ["x"]}'


@dataclass
class Answer:
    """All that came until the server closed the connection, or for `wait` seconds."""

    content: bytes
    closed: bool
    seconds: float

    @property
    def statuses(self) -> list[int]:
        return [int(part[:3]) for part in self.content.split(b"HTTP/1.1 ")[1:]]

    @property
    def status(self) -> int:
        (status,) = self.statuses
        return status

    @property
    def detail(self) -> Any:
        return json.loads(self.content.rpartition(b"\r\n\r\n")[2])["detail"]


@dataclass
class Attacked:
    port: int
    models: FakeModels
    service: Any
    connections: set[Any]
    said: list[str]

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def send(self, data: bytes, *, wait: float = 10) -> Answer:
        """Send bytes and read what comes."""
        with self.connect() as client:
            client.settimeout(wait)
            start, content, closed = time.monotonic(), b"", False
            with contextlib.suppress(OSError):
                client.sendall(data)
            try:
                while more := client.recv(65536):
                    content += more
                closed = True
            except ConnectionError:
                closed = True
            except TimeoutError:
                pass
            return Answer(content, closed, time.monotonic() - start)

    def works(self) -> bool:
        return self.send(get("/healthz", b"Connection: close\r\n")).statuses == [200]


class _Errors(logging.Handler):
    """Keeps the errors that the servers of this process log."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(self.format(record))


@contextlib.contextmanager
def attacked(
    limits: Limits = LIMITS, token: str | None = None, models: FakeModels | None = None, *, may_fail: bool = False
) -> Iterator[Attacked]:
    """A server until the end of the block; it must stop by itself and log no error, unless it `may_fail`."""
    import uvicorn
    import uvloop

    from feathertune.serve.hosts import AllowedHosts
    from feathertune.serve.server import configured, listen
    from feathertune.serve.service import Service

    models = models or fakes("a", "b")
    opened = listen("127.0.0.1", 0)
    service = Service(models, limits, token, AllowedHosts(opened, ["api.example.org", "other.example.org:9000"]))
    server = uvicorn.Server(configured(service))
    errors = _Errors()
    loggers = [logging.getLogger(name) for name in ("uvicorn.error", "asyncio", "feathertune.serve")]
    for logger in loggers:
        logger.addHandler(errors)

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.serve(sockets=[opened]))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield Attacked(opened.getsockname()[1], models, service, server.server_state.connections, errors.said)
    finally:
        models.go.set()
        service.stop_loading()
        server.should_exit = True
        thread.join(20)
        opened.close()
        for logger in loggers:
            logger.removeHandler(errors)
    assert not thread.is_alive()
    assert may_fail or not errors.said, errors.said


def get(path: str, more: bytes = b"", host: bytes = HOST) -> bytes:
    return b"GET %s HTTP/1.1\r\n" % path.encode() + host + more + b"\r\n"


def post(body: bytes = BODY, more: bytes = b"", length: int | None = None, path: str = "/v1/models/a:predict") -> bytes:
    said = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % (len(body) if length is None else length)
    return b"POST %s HTTP/1.1\r\n" % path.encode() + HOST + said + more + b"\r\n" + body


def chunked(rest: bytes) -> bytes:
    said = b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return b"POST /v1/models/a:predict HTTP/1.1\r\n" + HOST + said + rest
