"""Mutated requests, thousands of them: the server answers or closes in time, says no traceback, and stays alive."""

import random
import resource
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from attack.http_server import HOST, LIMITS, TOKEN, attacked, chunked, get, post

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")

KEY = b"Authorization: Bearer " + TOKEN.encode() + b"\r\n"
REQUESTS = [
    get("/healthz"),
    get("/v1/models", KEY),
    get("/openapi.json"),
    get("/metrics", KEY + b"Accept: */*\r\n"),
    get("http://127.0.0.1/v1/models", KEY),
    post(more=KEY),
    post(b'{"texts": ["' + b"great " * 500 + b'", "\\u00e4"], "text_pairs": null}', KEY),
    post(b'{"path": "/x/good"}', KEY, path="/v1/models/c").replace(b"POST", b"PUT"),
    get("/v1/models/c", KEY).replace(b"GET", b"DELETE"),
    post(more=KEY + b"Expect: 100-continue\r\n"),
    chunked(b'8\r\n{"texts"\r\n8;a=b\r\n: ["x"]}\r\n0\r\nA: b\r\n\r\n'),
    get("/healthz") + post(more=KEY) + get("/healthz"),
    get("/", b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"),
]
PIECES = [
    *(
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\0",
        b"\xff\xfe",
        b" ",
        b":",
        b"/",
        b"..",
        b"%00",
        b"?",
        b"#",
        b"\x1b[31m",
        b'"',
        b"{",
        b"[",
    ),
    *(
        b"HTTP/1.0",
        b"HTTP/2.0",
        b"-1",
        b"99999999999999999999",
        b"FFFFFFFFFFFFFFFF",
        b"0\r\n\r\n",
        b"x" * 20_000,
        b"A: b\r\n" * 120,
    ),
    *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity, chunked\r\n", HOST),
    *(b"Host: evil.example\r\n", b"Connection: close\r\n", b"Connection: keep-alive, upgrade\r\n", b"Upgrade: h2c\r\n"),
]
ANSWERS = {100, 200, 201, 204, 400, 401, 404, 405, 408, 409, 413, 415, 421, 422, 429, 431, 503}


def mutated(rng):
    data = bytearray(rng.choice(REQUESTS))
    for _ in range(rng.choice((0, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(data) + 1)
        to = min(len(data), at + rng.choice((1, 1, 2, 8, 40)))
        match rng.randrange(7):
            case 0:
                del data[at:to]
            case 1:
                data[at:at] = rng.choice(PIECES)
            case 2:
                data[at:to] = rng.choice(PIECES)
            case 3:
                data[at:to] = rng.randbytes(to - at)
            case 4:
                data[at:at] = data[at:to] * rng.choice((2, 50))
            case 5:
                data[at:at] = rng.choice(REQUESTS)
            case 6:
                del data[at:]
    return bytes(data)


def talk(server, seed):
    """Send one mutated request in some pieces; return the statuses and the seconds until the connection ended."""
    rng = random.Random(seed)
    data = mutated(rng)
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 0, 1, 3))))
    start, content = time.monotonic(), b""
    with server.connect() as client:
        client.settimeout(20)
        try:
            for part in (data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)):
                client.sendall(part)
            if rng.random() < 0.1:
                return [], 0.0  # the client leaves
            if rng.random() < 0.1:
                client.shutdown(socket.SHUT_WR)
            while more := client.recv(65536):
                content += more
        except TimeoutError:
            raise
        except OSError:  # the server has closed it
            pass
    return [int(part[:3]) for part in content.split(b"HTTP/1.1 ")[1:]], time.monotonic() - start


@pytest.mark.parametrize("n", [300, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(1500)])])
def test_mutated_requests_are_answered_or_closed(n, monkeypatch):
    monkeypatch.setattr("feathertune.serve.service.give_memory_back", lambda: None)  # looks at all of torch each time
    limits = replace(LIMITS, header_s=0.1, body_s=0.1, idle_s=0.1, connections=64)
    with attacked(limits, TOKEN) as server, ThreadPoolExecutor(16) as pool:
        seen, slowest = Counter(), 0.0
        for seed, (statuses, seconds) in enumerate(pool.map(lambda seed: talk(server, seed), range(n))):
            assert set(statuses) <= ANSWERS, (seed, statuses)
            seen.update(statuses)
            slowest = max(slowest, seconds)
        assert server.works()
        assert server.service.batcher.alive
    assert slowest < 10
    assert len(seen) >= 9, seen
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2_000_000  # kB
