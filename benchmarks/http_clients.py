"""Minimal HTTP clients for a server on this machine; they do little work, because they share its CPU.

As a script, this generates the load of `bench_serve`: several clients at once, each sending its next request when it
has its answer. This is not an HTTP library: it supports only responses with a length, on connections that stay open.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass
from itertools import count
from typing import Any


@dataclass
class Connection:
    """A connection that stays open."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, host: str, port: int) -> Connection:
        """Connect."""
        return cls(*await asyncio.open_connection(host, port))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and return the status and body of its response."""
        self.writer.write(request)
        await self.writer.drain()
        head = await self.reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        lower = head.lower()
        at = lower.find(b"content-length:")
        n = int(lower[at + 15 : lower.index(b"\r\n", at)]) if at >= 0 else 0
        return status, await self.reader.readexactly(n)

    def close(self) -> None:
        """Close the connection, dropping anything in flight."""
        self.writer.close()


def http(method: str, path: str, body: Any = None, *, token: str | None = None, raw: bytes | None = None) -> bytes:
    """Return the bytes of an HTTP request."""
    content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(content)}"] + ([f"Authorization: Bearer {token}"] if token else [])
    return "\r\n".join([*lines, "", ""]).encode() + content


async def load(
    host: str, port: int, requests: list[bytes], *, clients: int, warm_up_s: float, seconds: float
) -> dict[str, Any]:
    """Send requests for a given time, and measure the responses in that time."""
    numbers = count()
    begin = time.perf_counter() + warm_up_s
    end = begin + seconds
    latencies: list[float] = []
    statuses: Counter[int] = Counter()

    async def client() -> None:
        connection = await Connection.open(host, port)
        while (start := time.perf_counter()) < end:
            status, _ = await connection.ask(requests[next(numbers) % len(requests)])
            now = time.perf_counter()
            if begin <= now < end:
                latencies.append(now - start)
                statuses[status] += 1
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    latencies.sort()

    def quantile(q: float) -> float:
        return latencies[min(len(latencies) - 1, int(q * len(latencies)))]

    return {
        "requests": len(latencies),
        "requests_per_s": len(latencies) / seconds,
        "p50_ms": 1000 * quantile(0.5),
        "p95_ms": 1000 * quantile(0.95),
        "p99_ms": 1000 * quantile(0.99),
        "statuses": dict(statuses),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--warm-up-s", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    asked = [http("POST", one["path"], one["body"]) for one in json.load(sys.stdin)]
    found = asyncio.run(
        load(
            "127.0.0.1",
            arguments.port,
            asked,
            clients=arguments.clients,
            warm_up_s=arguments.warm_up_s,
            seconds=arguments.seconds,
        )
    )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
