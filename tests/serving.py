"""What tests of the server share: bundles that are none, whose passes can be held up, and a client without network."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from feathertune.errors import BundleError, UnknownNameError
from feathertune.serve.limits import Limits
from feathertune.serve.schemas import Base, ModelInfo


@dataclass(eq=False)
class FakeModel:
    """Answers each text with its own words, so that nothing can be mixed up unseen."""

    name: str
    lane: Any = "one"
    padding_share: float = 1.0
    reads_pairs: bool = False

    def describe(self) -> ModelInfo:
        return ModelInfo(
            name=self.name,
            method="lora",
            kind="peft",
            task="single_label",
            labels=["no", "yes"],
            max_length=16,
            text_columns=["text"],
            base=Base(id="b", revision=None, fingerprint="f"),
            shares_passes=True,
            note="",
            own_bytes=1,
        )

    def answer(self, text: str) -> tuple[str, dict[str, float]]:
        return f"{self.name}:{text}", {"no": 0.25, "yes": 0.75}


@dataclass(frozen=True)
class FakeRow:
    text: str
    width: int


@dataclass
class FakeModels:
    """As `feathertune.serve.models.Models`; a pass waits until `go` is set. `workers` are the passes' threads."""

    by_name: dict[str, FakeModel] = field(default_factory=dict)
    passes: list[list[str]] = field(default_factory=list)
    encoded: int = 0
    go: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)
    fail: Exception | None = None
    n_workers: int = 1
    workers: list[tuple[int, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.go.set()

    def __len__(self) -> int:
        return len(self.by_name)

    def __contains__(self, name: str) -> bool:
        return name in self.by_name

    def __getitem__(self, name: str) -> FakeModel:
        if name not in self.by_name:
            raise UnknownNameError("model", name, self.by_name)
        return self.by_name[name]

    def all(self) -> list[FakeModel]:
        return list(self.by_name.values())

    def read(self, path: Path, base: str | None = None) -> str:
        if "\0" in str(path):
            raise ValueError("embedded null byte")
        if not path.name.startswith("good"):
            raise BundleError(f"The bundle {path} is not a folder.")
        return str(path)

    def add(self, name: str, read: str) -> FakeModel:
        self.by_name[name] = FakeModel(name)
        return self.by_name[name]

    def remove(self, name: str) -> FakeModel:
        found = self[name]
        del self.by_name[name]
        return found

    def encode(self, model: FakeModel, texts: Sequence[str]) -> list[FakeRow]:
        self.encoded += len(texts)
        if any("untokenisable" in text for text in texts):
            raise RuntimeError("no tokens")
        return [FakeRow(text, 8 * max(1, len(text.split()))) for text in texts]

    def run(
        self, rows: Sequence[tuple[FakeModel, FakeRow]], *, worker: int, alone: bool
    ) -> list[tuple[str, dict[str, float]]]:
        self.workers.append((worker, alone))
        self.begun.set()
        assert self.go.wait(200), "a test forgot to let the pass go"
        self.passes.append([row.text for _, row in rows])
        if self.fail is not None:
            raise self.fail
        return [model.answer(row.text) for model, row in rows]


def fakes(*names: str) -> FakeModels:
    return FakeModels({name: FakeModel(name) for name in names or ("a",)})


# So small that tests reach them, and no waiting for more texts.
SMALL = Limits(
    token_budget=64,
    latency_budget_s=0.0,
    queue_texts=8,
    request_texts=4,
    text_characters=100,
    body_bytes=1000,
    timeout_s=100.0,  # of a machine that does much else
    drain_s=0.0,
)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Asks an ASGI app."""

    app: Any
    token: str | None = None

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        chunks: Sequence[bytes] | None = None,
        leave: asyncio.Event | None = None,
    ) -> Reply:
        """One request.

        Args:
            method: Of HTTP.
            path: Without a query.
            body: Bytes, or what becomes JSON.
            headers: Over the usual ones.
            chunks: The body, without its length said.
            leave: When it is set, the client is gone.
        """
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        given = {"host": "test", **({"content-type": "application/json"} if body is not None or chunks else {})}
        if self.token is not None:
            given["authorization"] = f"Bearer {self.token}"
        if chunks is None:
            chunks = [content]
            given["content-length"] = str(len(content))
        given |= headers or {}
        waiting = [
            {"type": "http.request", "body": chunk, "more_body": i + 1 < len(chunks)} for i, chunk in enumerate(chunks)
        ]
        done = asyncio.Event()
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if waiting:
                return waiting.pop(0)
            await (leave or done).wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                done.set()

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        await self.app(scope, receive, send)
        start = next(message for message in sent if message["type"] == "http.response.start")
        found = {name.decode(): value.decode() for name, value in start["headers"]}
        return Reply(start["status"], found, b"".join(m.get("body", b"") for m in sent if "body" in m))

    async def predict(self, *texts: str, name: str = "a", **more: Any) -> Reply:
        return await self.ask("POST", f"/v1/models/{name}:predict", {"texts": list(texts)}, **more)


@contextlib.asynccontextmanager
async def running(service: Any, token: str | None = None) -> AsyncIterator[Client]:
    """An app from its start to its end."""
    from feathertune.serve.app import create_app

    app = create_app(service)
    async with app.router.lifespan_context(app):
        yield Client(app, token)


@contextlib.contextmanager
def listening(service: Any) -> Iterator[str]:
    """A real server on a free port, in a thread of this process; where it is."""
    import uvicorn

    from feathertune.serve.app import create_app
    from feathertune.serve.server import address, listen

    opened = listen("127.0.0.1", 0)
    config = uvicorn.Config(create_app(service), log_level="critical", access_log=False, timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[opened])), daemon=True)
    thread.start()
    try:
        yield address(opened)
    finally:
        server.should_exit = True
        thread.join(20)
        opened.close()
    assert not thread.is_alive()
