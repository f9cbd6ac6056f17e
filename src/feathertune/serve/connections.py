"""Limits of a connection: refuse requests that are too large, too slow or not HTTP before they reach the app.

httptools has no limits, and uvicorn only times out idle connections.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from feathertune.serve.batcher import Stopping
from feathertune.serve.limits import Limits

_MOST_PIPELINED = 16
# Seconds to keep reading from a refused client: if closed at once, it might never see the answer.
_LINGER_S = 2.0
_NO_HTTP = "Expected HTTP/1.1. The server does not support TLS: put a TLS proxy in front of it."


class LimitedConnection(HttpToolsProtocol):
    """Connection with limits."""

    def __init__(self, limits: Limits, **given: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(**given)
        self._limits = limits
        self._part: Literal["head", "body", "none"] = "head"  # part of the request being read
        self._part_bytes = 0  # received since the last parsed part
        self._active: RequestResponseCycle | None = None  # the request being answered; `cycle` is the newest
        self._deadline: asyncio.TimerHandle | None = None  # for the part, or for closing the connection
        self._reader_deadline: asyncio.TimerHandle | None = None
        self._why: tuple[int, str] | None = None
        self._ended = False
        self.url, self.headers = b"", []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse the connection if too many are open."""
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > self._limits.connections:
            self.connections.discard(self)  # a closing connection does not count
            self._refuse(503, f"More than {self._limits.connections} clients are connected. Retry later.")

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop all requests, including queued ones."""
        for timer in (self._deadline, self._reader_deadline):
            if timer is not None:
                timer.cancel()
        self._drop(self._active)
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse bytes, unless the connection is being closed."""
        if self._ended:
            return
        self._part_bytes += len(data)  # the callbacks reset it
        super().data_received(data)
        if self._part == "none":
            self._part_bytes = 0
        elif why := self._too_large():
            self._refuse(431, why)
        if not self.transport.is_closing():
            self._watch()

    def on_message_begin(self) -> None:
        """Start a header."""
        super().on_message_begin()
        self._part, self._part_bytes = "head", 0

    def on_headers_complete(self) -> None:
        """Refuse a header, or start its request."""
        self._part_bytes = 0
        if why := self._too_large():
            raise self._refusal(431, why)
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            raise self._refusal(400, _NO_HTTP)
        if not self.url.startswith(b"/") and self.url.split(b"/", 3)[2:3] != [
            value for name, value in self.headers if name == b"host"
        ]:  # such as http://host/path
            raise self._refusal(400, "The request URL and the Host header differ.")
        super().on_headers_complete()
        self._part = "body"
        self.headers = []  # a body's trailers do not belong to the request
        if not self.pipeline:
            self._active = self.cycle
        elif len(self.pipeline) > _MOST_PIPELINED:
            raise self._refusal(400, f"More than {_MOST_PIPELINED} requests are waiting on this connection.")

    def on_body(self, body: bytes) -> None:
        """Read a chunk of a body."""
        self._part_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        super().on_message_complete()
        self._part = "none"
        self._unwatch()

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that the parser or a callback rejected."""
        self._refuse(*(self._why or (400, _NO_HTTP)))

    def on_response_complete(self) -> None:
        """Start the next request, or wait for it."""
        if self.pipeline:
            self._active = self.pipeline[-1][0]
        super().on_response_complete()
        if self.transport.is_closing():
            self._end_within(self._limits.answer_s)
        elif self._part != "none" and not self._ended:
            self._unwatch()
            self._watch()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, even if the client has not read all of its answer."""
        if not self.transport.is_closing():
            self.transport.close()
            self._end_within(self._limits.answer_s)

    def pause_writing(self) -> None:
        """Start the client's deadline for reading its answer."""
        super().pause_writing()
        self._reader_deadline = self.loop.call_later(self._limits.answer_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the deadline of `pause_writing`."""
        super().resume_writing()
        if self._reader_deadline is not None:
            self._reader_deadline.cancel()

    def shutdown(self) -> None:
        """Answer only requests that were received completely."""
        if self._part == "body" and not self.pipeline and not self.cycle.response_started:
            self._refuse(503, str(Stopping()))
        else:
            super().shutdown()

    def _refusal(self, status: int, detail: str) -> Exception:
        """Return the exception for a callback to raise; the parser hides its type."""
        self._why = status, detail
        return ValueError(detail)

    def _too_large(self) -> str | None:
        """Return the limit that a header, trailers or chunk framing exceeds; None if there is none."""
        limits = self._limits
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if max(size, self._part_bytes) > limits.header_bytes:
            return f"The header exceeds {limits.header_bytes} bytes."
        return f"The header has more than {limits.headers} fields." if len(self.headers) > limits.headers else None

    def _watch(self) -> None:
        """Start the deadline of the current part, unless it runs or an older request is being answered."""
        is_body, seconds = self._part == "body", self._limits.header_s
        if self.pipeline if is_body else self._active is not None and not self._active.response_complete:
            return
        if is_body:
            seconds = min(self._limits.body_s, _LINGER_S if self.cycle.response_complete else self._limits.body_s)
        if self._deadline is None:
            self._deadline = self.loop.call_later(seconds, self._too_slow)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        if self._part == "none":  # no request has started
            self.timeout_keep_alive_handler()
            return
        part, seconds = ("body", self._limits.body_s) if self._part == "body" else ("header", self._limits.header_s)
        self._refuse(408, f"The {part} was not complete after {seconds:g} s.")

    def _refuse(self, status: int, detail: str) -> None:
        """Refuse the current request after earlier ones are answered, and close the connection."""
        if self._ended or self.transport.is_closing():
            return
        self._ended = True
        self._unset_keepalive_if_required()
        reading = self._part == "body" and self.cycle is self._active
        if self._active is not None and not self._active.response_complete:
            if not reading:  # an older request, which is answered last
                self.pipeline.clear()
                self._active.keep_alive = False
                return
            if self._active.response_started:
                self.transport.abort()
                return
            self._drop(self._active)
        elif reading:  # answered before its body was read
            self.transport.close()
            self._end_within(_LINGER_S)
            return
        content = json.dumps({"detail": detail}).encode()
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(content)
        self.transport.write(STATUS_LINE[status] + head + content)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._end_within(_LINGER_S)

    def _end_within(self, seconds: float) -> None:
        self._unwatch()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    @staticmethod
    def _drop(cycle: RequestResponseCycle | None) -> None:
        """Tell the app that the client disconnected."""
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
