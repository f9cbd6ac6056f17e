"""A stand-in of the hub on the loopback: as much of its HTTP API as an upload by huggingface_hub needs.

It keeps what arrives, so that a test can compare bytes. Laid out after the calls that huggingface_hub makes.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session

TOKEN = "hf_of_the_test"


@dataclass
class Hub:
    """Repositories by id and branch, and what was asked for.

    Attributes:
        refusals: Status and message by the beginning of a path, in the place of an answer.
    """

    endpoint: str = ""
    repositories: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    visibility: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    _large: dict[str, bytes] = field(default_factory=dict)

    def answer(self, method: str, path: str, body: bytes, authorized: bool) -> tuple[int, Any]:
        """Status and JSON of a request."""
        self.requests.append(f"{method} {path}")
        for start, (status, message) in self.refusals.items():
            if path.startswith(start):
                return status, {"error": message, "errors": [{"message": message}]}
        if path.startswith("/upload/"):
            self._large[path.removeprefix("/upload/")] = body
            return 200, {}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if not authorized:
            return 401, {"error": "Invalid username or password."}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path.endswith(".git/info/lfs/objects/batch"):
            return 200, self._places(json.loads(body))
        return self._of_repository(path, body)

    def _of_repository(self, path: str, body: bytes) -> tuple[int, Any]:
        owner, name, call, revision = path.removeprefix("/api/models/").split("/")[:4]
        branches = self.repositories[f"{owner}/{name}"]
        if call == "branch":
            return (409, {}) if revision in branches else (200, branches.update({revision: dict(branches["main"])}))
        if call == "tree":
            files = branches[revision]
            return 200, [{"type": "file", "path": n, "size": len(c), "oid": "0" * 40} for n, c in files.items()]
        if call == "preupload":
            asked = [file["path"] for file in json.loads(body)["files"]]
            modes = {name: "lfs" if name.endswith(".safetensors") else "regular" for name in asked}
            return 200, {"files": [{"path": n, "uploadMode": mode, "shouldIgnore": False} for n, mode in modes.items()]}
        assert call == "commit", path
        url = f"{self.endpoint}/{owner}/{name}/commit"
        return 200, self._commit(branches[revision], [json.loads(line) for line in body.splitlines()], url)

    def _create(self, wanted: dict[str, Any]) -> tuple[int, Any]:
        repo_id = f"{wanted['organization']}/{wanted['name']}"
        url = {"url": f"{self.endpoint}/{repo_id}"}
        if repo_id in self.repositories:
            return 409, {**url, "error": "You already created this model repo"}
        self.repositories[repo_id] = {"main": {".gitattributes": b"*.safetensors filter=lfs\n"}}
        private = wanted.get("private", False)  # how older clients say it
        self.visibility[repo_id] = wanted.get("visibility") or ("private" if private else "public")
        return 200, url

    def _places(self, wanted: dict[str, Any]) -> dict[str, Any]:
        def place(one: dict[str, Any]) -> dict[str, Any]:
            return {**one, "actions": {"upload": {"href": f"{self.endpoint}/upload/{one['oid']}"}}}

        places = [place(one) for one in wanted["objects"]]
        return {"transfer": "basic", "objects": places}

    def _commit(self, files: dict[str, bytes], lines: list[dict[str, Any]], url: str) -> dict[str, Any]:
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.commits.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self._large[value["oid"]]
            else:
                assert line["key"] == "deletedFile", line
                del files[value["path"]]
        commit = f"{len(self.commits):040x}"
        return {"commitUrl": f"{url}/{commit}", "commitOid": commit}


class _Handler(BaseHTTPRequestHandler):
    hub: ClassVar[Hub]
    protocol_version = "HTTP/1.1"

    def _handle(self) -> None:
        authorized = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        status, answer = self.hub.answer(self.command, self.path.partition("?")[0], self._body(), authorized)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = _handle

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def loopback_hub() -> Iterator[Hub]:
    """A hub that listens during the block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def point_at(monkeypatch: pytest.MonkeyPatch, endpoint: str, *, token: str | None = TOKEN) -> None:
    """Let huggingface_hub in this process, which read its environment long ago, talk to an endpoint."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # its servers are not those of the endpoint
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere/token")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    if token is None:
        monkeypatch.delenv("HF_TOKEN", raising=False)
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    close_session()
