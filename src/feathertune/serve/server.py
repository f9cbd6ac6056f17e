"""Run the server: listen on a port, and stop without losing requests; a second signal stops it at once."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import sys
from typing import Any

import psutil
import uvicorn

try:  # libuv's loop leaves more CPU time to the passes
    from uvloop import new_event_loop as _new_loop
except ImportError:
    from asyncio import new_event_loop as _new_loop  # type: ignore[assignment]

from feathertune.errors import ConfigError, first_line
from feathertune.gc_freeze import gc_frozen
from feathertune.runtime import give_memory_back
from feathertune.serve.app import create_app
from feathertune.serve.connections import LimitedConnection
from feathertune.serve.service import Service

# Seconds until a thread that waits for Python's lock gets it. A pass takes the lock hundreds of times: with the default
# 5 ms, it spent most of its time waiting for request parsing.
_SWITCH_INTERVAL_S = 0.0005
_BACKLOG = 2048
_GIVE_BACK_EVERY_S, _MUCH_BYTES = 3.0, 16 << 20
_LAST_PORT = 65_535


def listen(host: str, port: int) -> socket.socket:
    """Open a port; 0 picks a free one."""
    if not 0 <= port <= _LAST_PORT:
        raise ConfigError(f"The port is {port}. Expected 0 (any free port) to {_LAST_PORT}.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"Cannot listen on {host}, port {port}: {error.strerror or error}. "
            "If another program uses the port, pass another --port, or 0 for any free port."
        ) from error


def address(opened: socket.socket) -> str:
    """Return the URL of an open port."""
    host, port = opened.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(service: Service, opened: socket.socket) -> None:
    """Answer requests until the process receives a stop signal."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        with gc_frozen(), asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(_serve(service, opened))
    finally:
        sys.setswitchinterval(before)


def configured(service: Service) -> uvicorn.Config:
    """Return uvicorn's configuration: HTTP only, with limits on every connection."""
    limits = service.limits
    config = uvicorn.Config(
        create_app(service),
        http=functools.partial(LimitedConnection, limits),  # type: ignore[arg-type]
        timeout_keep_alive=limits.idle_s,  # type: ignore[arg-type]
        ws="none",
        proxy_headers=False,
        log_level="error",  # one warning per refused client would fill the disk
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(limits.timeout_s) + 1,
        lifespan="on",
    )
    if not logging.getLogger("feathertune.serve").isEnabledFor(logging.DEBUG):
        for name in ("feathertune.serve", "uvicorn.error", "asyncio"):
            logging.getLogger(name).addFilter(_without_traceback)
    return config


def _without_traceback(record: logging.LogRecord) -> bool:
    """Log an error in one line; `--debug` keeps the traceback."""
    if record.exc_info and isinstance(error := record.exc_info[1], Exception):
        record.msg, record.args = f"{record.getMessage().strip()}: {type(error).__name__}: {first_line(error)}", ()
        record.exc_info = record.exc_text = None
    return True


async def _keep_small(server: Any, service: Service) -> None:  # noqa: ANN401 - uvicorn's server
    """Return idle memory to the system: large bodies and passes leave it with the allocator."""
    process = psutil.Process()
    low, seen = process.memory_info().rss, -1
    while True:
        await asyncio.sleep(_GIVE_BACK_EVERY_S)
        state = server.server_state
        is_busy = service.n_bodies != seen or state.tasks or any(one.flow.write_paused for one in state.connections)
        seen = service.n_bodies
        if not is_busy and process.memory_info().rss > low + _MUCH_BYTES:
            await asyncio.to_thread(give_memory_back)
            low = process.memory_info().rss


async def _serve(service: Service, opened: socket.socket) -> None:
    server: Any = uvicorn.Server(configured(service))
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def stop(_signal: int, _frame: object) -> None:
        if service.stopping:
            server.should_exit = server.force_exit = True
        service.stopping = True
        loop.call_soon_threadsafe(asked.set)

    # uvicorn's own handler would stop listening at once.
    server.handle_exit = stop
    running = asyncio.create_task(server.serve(sockets=[opened]))
    asking = asyncio.create_task(asked.wait())
    giving = asyncio.create_task(_keep_small(server, service))
    await asyncio.wait((running, asking), return_when=asyncio.FIRST_COMPLETED)
    if asked.is_set() and not running.done():  # answer 503 for a moment, so a load balancer picks another server
        await asyncio.wait((running,), timeout=service.limits.drain_s)
        service.stop_loading()
        server.should_exit = True
    asking.cancel()
    giving.cancel()
    await running
