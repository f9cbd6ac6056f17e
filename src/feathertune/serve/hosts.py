"""Allowed Host headers, which stop other websites from reaching the server by DNS rebinding."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from feathertune.errors import ConfigError

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::([0-9]{1,5}))?")
_REFUSED = (
    "This Host is not allowed. Use the address that the server listens on, or start the server with "
    "--allowed-host NAME."
)


class AllowedHosts:
    """Allowed hosts of a server: its address and `names`; ``*`` allows all.

    Raises:
        ConfigError: If a name is invalid.
    """

    def __init__(self, opened: socket.socket, names: Sequence[str] = ()) -> None:
        address, port = opened.getsockname()[:2]
        bound = ipaddress.ip_address(address)
        self._port, self._any_address, self._all = str(port), bound.is_unspecified, "*" in names
        self._names: set[tuple[str, str | None]] = {(str(bound), None)}
        if bound.is_loopback or bound.is_unspecified:
            self._names |= {("localhost", None), ("127.0.0.1", None), ("::1", None)}
        for name in set(names) - {"*"}:
            if (found := _parts(name)) is None:
                raise ConfigError(f"--allowed-host is '{name}'. Expected a name such as example.org, NAME:PORT, or *.")
            self._names.add(found)

    def takes(self, host: bytes) -> bool:
        """Return True if the value of a Host header is allowed."""
        if (found := _parts(host.decode("latin-1"))) is None:
            return False
        if self._all or found in self._names:
            return True
        here = (found[0], None) in self._names or (self._any_address and bool(_address(found[0])))
        return here and found[1] in (None, self._port)

    def checking(self, app: ASGIApp) -> ASGIApp:
        """Return an app that answers only for the allowed hosts."""

        async def checked(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                hosts = [value for name, value in scope["headers"] if name == b"host"]
                if len(hosts) != 1 or not self.takes(hosts[0]):
                    said = _REFUSED if len(hosts) == 1 else f"Expected one Host header, found {len(hosts)}."
                    await JSONResponse({"detail": said}, 421 if len(hosts) == 1 else 400)(scope, receive, send)
                    return
            await app(scope, receive, send)

        return checked


def _parts(host: str) -> tuple[str, str | None] | None:
    """Return the normalized name and port of ``NAME:PORT``; None if it is not a host."""
    if (found := _HOST.fullmatch(f"[{host}]" if host.count(":") > 1 and host[0] != "[" else host)) is None:
        return None
    name = found[1].strip("[]").lower().removesuffix(".")
    return _address(name) or name, found[2]


def _address(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return ""
