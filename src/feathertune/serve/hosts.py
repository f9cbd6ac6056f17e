"""The hosts that a server answers for: a page of another site must not reach it through a name of its own."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from feathertune.errors import ConfigError

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::([0-9]{1,5}))?")
_MOST_KNOWN = 64
_REFUSED = (
    "The server does not answer for this Host. Ask for the address that it listens on, or start it with "
    "--allowed-host NAME."
)


class AllowedHosts:
    """The names of a server; `names` come with its address, and ``*`` allows all.

    Raises:
        ConfigError: If a name is none.
    """

    def __init__(self, opened: socket.socket, names: Sequence[str] = ()) -> None:
        address, port = opened.getsockname()[:2]
        bound = ipaddress.ip_address(address)
        self._port = str(port)
        self._all, self._any_address = "*" in names, bound.is_unspecified
        self._names = {_plain(name) for name in names if name != "*"} | {str(bound)}
        if bound.is_loopback:
            self._names |= {"localhost", "127.0.0.1", "::1"}
        elif bound.is_unspecified:
            self._names.add("localhost")
        self._known: set[bytes] = set()

    def takes(self, host: bytes) -> bool:
        """Return True if the value of a Host header is one of the server's."""
        if host in self._known:
            return True
        found = _HOST.fullmatch(host.decode("latin-1"))
        if found is None:
            return False
        name, port = _plain_name(found[1]), found[2]
        takes = self._all or f"{name}:{port}" in self._names
        if port in (None, self._port):
            takes = takes or name in self._names or (self._any_address and _is_address(name))
        if takes and len(self._known) < _MOST_KNOWN:
            self._known.add(host)
        return takes

    def checking(self, app: ASGIApp) -> ASGIApp:
        """Return an app that answers for these hosts only."""

        async def checked(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                hosts = [value for name, value in scope["headers"] if name == b"host"]
                if len(hosts) != 1:
                    refusal = 400, f"Expected one Host header, found {len(hosts)}."
                elif not self.takes(hosts[0]):
                    refusal = 421, _REFUSED
                else:
                    refusal = None
                if refusal:
                    await JSONResponse({"detail": refusal[1]}, refusal[0])(scope, receive, send)
                    return
            await app(scope, receive, send)

        return checked


def _plain(name: str) -> str:
    found = _HOST.fullmatch(name)
    if found is None and _is_address(name):
        return _plain_name(name)
    if found is None:
        raise ConfigError(f"--allowed-host is '{name}'. Expected a name as in example.org, with a port or none, or *.")
    return _plain_name(found[1]) + (f":{found[2]}" if found[2] else "")


def _plain_name(name: str) -> str:
    name = name.strip("[]").lower().removesuffix(".")
    return str(ipaddress.ip_address(name)) if _is_address(name) else name


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
