"""`feathertune serve` in a process of its own, and a plain client."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from e2e.cli import ENVIRONMENT
from e2e.forked import Forked


@dataclass
class Server:
    """A running server."""

    process: Forked
    address: str
    said: list[str]
    token: str | None

    def connect(self, timeout: float = 200) -> http.client.HTTPConnection:
        place = urlsplit(self.address)
        assert place.hostname is not None
        return http.client.HTTPConnection(place.hostname, place.port, timeout=timeout)

    def ask(
        self, method: str, path: str, body: Any = None, connection: http.client.HTTPConnection | None = None
    ) -> tuple[int, Any]:
        """Status, and what the JSON holds."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        with contextlib.closing(self.connect()) if connection is None else contextlib.nullcontext(connection) as used:
            used.request(method, path, None if body is None else json.dumps(body), headers)
            reply = used.getresponse()
            content = reply.read()
        is_json = "json" in (reply.getheader("Content-Type") or "")
        return reply.status, json.loads(content) if is_json else content.decode()

    def predict(self, name: str, *texts: str, **more: Any) -> tuple[int, Any]:
        return self.ask("POST", f"/v1/models/{name}:predict", {"texts": list(texts)}, **more)


@contextlib.contextmanager
def serving(*arguments: object, token: str | None = None) -> Iterator[Server]:
    """Start a server on a free port; it is stopped afterwards."""
    environment = {**ENVIRONMENT, **({"FEATHERTUNE_TOKEN": token} if token else {})}
    process = Forked(["-m", "feathertune", "serve", *map(str, arguments), "--port", "0"], env=environment)
    said: list[str] = []
    try:
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"Listening on (\S+)", line):
                break
        else:
            raise AssertionError(f"it did not start: {''.join(said)}")
        yield Server(process, found[1], said, token)
        os.set_blocking(process.stderr.fileno(), False)
        try:
            rest = process.stderr.read() or ""
        except TypeError:  # how a text file that does not block says that there is nothing
            rest = ""
        assert "Traceback" not in rest, rest
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(100)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            process.close()
