"""Run a server under mixed load for minutes, and check for wrong answers, errors and memory growth.

Run: ``python benchmarks/soak_serve.py --minutes 10``. Some clients send texts to bundles of several methods on one
encoder, and check each answer against `load(bundle).predict`. Others disconnect, send oversized bodies or invalid JSON,
request missing models, or omit the token. Meanwhile a bundle is repeatedly added, replaced and removed. At the end, the
server is stopped with requests in flight. Fails (exit code 1) on any 5xx except 503 at the end, any wrong answer,
or growing memory. Writes ``results/soak-serve.json``. On a machine with few cores, clients and server share them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from bench_serve import SOURCE, TOLERANCE, sentences
from http_clients import Connection, http

RESULTS = Path(__file__).with_name("results") / "soak-serve.json"
METHODS = ("lora", "ia3", "bitfit", "shira")
GUEST = "guest"
BODY_BYTES = 100_000
# Allowed memory growth from the middle third of the time to the last one, for kernels of rare shapes.
MAY_GROW = 1.05
BROKEN_OFF = "broken off"


@dataclass
class Soak:
    """Settings and results of a soak test."""

    port: int
    token: str
    texts: list[str]
    offline: dict[str, dict[str, dict[str, float]]]
    bundles: dict[str, Path]
    tolerance: float
    end: float
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    checked: int = 0
    stopping: bool = False
    resident: list[tuple[float, int]] = field(default_factory=list)

    def saw(self, kind: str, status: int | str, expected: tuple[int, ...]) -> None:
        """Count a response, and record an unexpected one."""
        self.statuses[f"{kind}: {status}"] += 1
        if status not in expected and not (self.stopping and status in (503, BROKEN_OFF)):
            self.unexpected.append(f"{kind}: {status}")

    def going(self) -> bool:
        """True until the time is over."""
        return time.monotonic() < self.end


async def asks(soak: Soak, seed: int) -> None:
    """Run a client that sends valid texts and checks the answers."""
    rng = random.Random(seed)
    connection = await Connection.open("127.0.0.1", soak.port)
    while soak.going():
        name = rng.choice([*METHODS, GUEST])
        texts = rng.sample(soak.texts, rng.choice((1, 1, 1, 2, 5, 20)))
        try:
            status, content = await connection.ask(predict(soak, name, texts))
        except (OSError, EOFError):
            soak.saw("predict", BROKEN_OFF, ())
            return
        soak.saw(
            "predict" if name != GUEST else "predict guest", status, (200, 429) if name != GUEST else (200, 404, 429)
        )
        if status == 200:
            look(soak, name, texts, json.loads(content)["predictions"])
        elif status == 429:
            await asyncio.sleep(0.2)
        elif status == 503:
            return
    connection.close()


def look(soak: Soak, name: str, texts: list[str], predictions: list[dict[str, Any]]) -> None:
    """Compare with the offline answers; the guest may be any bundle, but the same one for a whole request."""
    able = [name] if name != GUEST else list(METHODS)
    differences = {
        one: max(
            abs(found["probabilities"][label] - p)
            for text, found in zip(texts, predictions, strict=True)
            for label, p in soak.offline[one][text].items()
        )
        for one in able
    }
    soak.checked += len(texts)
    if min(differences.values()) > soak.tolerance:
        soak.wrong.append(f"{name}: off by {min(differences.values()):.3g}")


def predict(soak: Soak, name: str, texts: list[str]) -> bytes:
    return http("POST", f"/v1/models/{name}:predict", {"texts": texts}, token=soak.token)


async def annoys(soak: Soak, seed: int) -> None:
    """Run a client that sends invalid requests."""
    rng = random.Random(seed)
    whole = "/v1/models/lora:predict"
    kinds: list[tuple[str, bytes, tuple[int, ...]]] = [
        ("too large", http("POST", whole, {"texts": ["x" * BODY_BYTES]}, token=soak.token), (413,)),
        ("no JSON", http("POST", whole, raw=b"\x00\xff{", token=soak.token), (400,)),
        ("no texts", http("POST", whole, {"texts": []}, token=soak.token), (422,)),
        ("blank text", http("POST", whole, {"texts": [" "]}, token=soak.token), (422,)),
        ("not there", http("POST", "/v1/models/nobody:predict", {"texts": ["x"]}, token=soak.token), (404,)),
        ("no token", http("POST", whole, {"texts": ["x"]}), (401,)),
        ("no bundle", http("PUT", "/v1/models/nobody", {"path": "/nowhere"}, token=soak.token), (409,)),
        ("counters", http("GET", "/metrics", token=soak.token), (200,)),
    ]
    while soak.going():
        await asyncio.sleep(rng.uniform(0.02, 0.2))
        with contextlib.suppress(OSError, EOFError):  # the server may disconnect a client that sends too much
            connection = await Connection.open("127.0.0.1", soak.port)
            if rng.random() < 0.5:
                request = predict(soak, rng.choice(METHODS), rng.sample(soak.texts, 10))
                connection.writer.write(request[: rng.randrange(1, len(request) + 1)])
                await connection.writer.drain()
                await asyncio.sleep(rng.choice((0.0, 0.01)))
                soak.statuses["broke off"] += 1
            else:
                kind, request, expected = rng.choice(kinds)
                soak.saw(kind, (await connection.ask(request))[0], expected)
            connection.close()


async def administers(soak: Soak) -> None:
    """Add, replace and remove a bundle repeatedly."""
    rng = random.Random(0)
    path = f"/v1/models/{GUEST}"
    while soak.going():
        with contextlib.suppress(OSError, EOFError):
            connection = await Connection.open("127.0.0.1", soak.port)
            for expected in (201, 200):
                body = {"path": str(soak.bundles[rng.choice(METHODS)].resolve())}
                soak.saw("put", (await connection.ask(http("PUT", path, body, token=soak.token)))[0], (expected,))
                await asyncio.sleep(0.3)
            soak.saw("delete", (await connection.ask(http("DELETE", path, token=soak.token)))[0], (204,))
            connection.close()
        await asyncio.sleep(0.3)


async def weighs(soak: Soak, process: psutil.Process) -> None:
    """Record the server's memory once a second."""
    start = time.monotonic()
    while soak.going():
        with contextlib.suppress(psutil.Error):
            soak.resident.append((time.monotonic() - start, process.memory_info().rss))
        await asyncio.sleep(1)


async def stops(soak: Soak, process: subprocess.Popen[bytes]) -> int:
    """Stop the server with requests in flight; return its exit code."""
    await asyncio.sleep(max(0.0, soak.end - time.monotonic() - 3))
    soak.stopping = True
    process.send_signal(signal.SIGTERM)
    return await asyncio.to_thread(process.wait, 60)


async def run(soak: Soak, process: subprocess.Popen[bytes], clients: int) -> int:
    ended, *_ = await asyncio.gather(
        stops(soak, process),
        weighs(soak, psutil.Process(process.pid)),
        administers(soak),
        *(asks(soak, seed) for seed in range(clients)),
        *(annoys(soak, 1000 + seed) for seed in range(4)),
    )
    return ended


def make_bundles(folder: Path) -> dict[str, Path]:
    from feathertune import finetune
    from feathertune.config import load_config

    options = {"data.source": SOURCE, "data.train_size": 256, "data.validation_size": 100, "data.test_size": 100}
    config = load_config(options={**options, "train.epochs": 1, "data.max_length": 128})
    for method in METHODS:
        if not (folder / method).exists():
            finetune(config, folder / method, method=method)
    return {method: folder / method for method in METHODS}


def offline_answers(bundles: dict[str, Path], texts: list[str], dtype: str) -> dict[str, dict[str, dict[str, float]]]:
    from feathertune import load
    from feathertune.config import EngineConfig

    engine = EngineConfig(dtype=dtype, device="cpu", memory="return")
    found = {}
    for name, path in bundles.items():
        predictions = load(path, engine=engine).predict(texts)
        found[name] = {text: p for text, (_, p) in zip(texts, predictions, strict=True)}
    return found


def growth(resident: list[tuple[float, int]]) -> float:
    """Return the peak memory of the last third of the time divided by that of the middle third."""
    third = len(resident) // 3
    return max(b for _, b in resident[2 * third :]) / max(b for _, b in resident[third : 2 * third])


def wait_for_port(process: subprocess.Popen[bytes], log: Any) -> int:
    """Return the server's port from its log."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and process.poll() is None:
        log.seek(0)
        if found := re.search(r"Listening on http://127\.0\.0\.1:(\d+)", log.read()):
            return int(found[1])
        time.sleep(0.2)
    log.seek(0)
    raise SystemExit(f"The server did not start: {log.read()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--bundles", type=Path, help="folder where bundles are created and reused")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.bundles or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-serve-")))
        result = measure(arguments, make_bundles(folder))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in result.items() if key != "resident_mb"}, indent=1))
    sys.exit(0 if result["passed"] else 1)


def measure(arguments: argparse.Namespace, bundles: dict[str, Path]) -> dict[str, Any]:
    """Start the server, run all clients, and return the result."""
    from feathertune.config import EngineConfig
    from feathertune.runtime import choose_runtime, hardware, versions

    texts = sentences()[:300]
    offline = offline_answers(bundles, texts, arguments.dtype)
    token = secrets.token_urlsafe(16)
    command = [sys.executable, "-m", "feathertune", "serve", *map(str, bundles.values()), "--port", "0"]
    command += ["--set", f"engine.dtype={arguments.dtype}", "--set", "engine.device=cpu"]
    command += ["--body-bytes", str(BODY_BYTES), "--queue-texts", "300"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "FEATHERTUNE_TOKEN": token}
    with tempfile.NamedTemporaryFile("r") as log:
        process = subprocess.Popen(command, env=environment, stderr=open(log.name, "w"))  # noqa: SIM115 - the child's
        seconds = 60 * arguments.minutes
        try:
            port = wait_for_port(process, log)
            end = time.monotonic() + seconds
            soak = Soak(port, token, texts, offline, bundles, TOLERANCE[arguments.dtype], end)
            code = asyncio.run(run(soak, process, arguments.clients))
        finally:
            if process.poll() is None:
                process.kill()
        log.seek(0)
        said = log.read()
    grown = growth([one for one in soak.resident if one[0] < seconds - 4])
    n_5xx = sum(n for kind, n in soak.statuses.items() if re.search(r": 5\d\d$", kind) and not kind.endswith(": 503"))
    passed = not (soak.wrong or soak.unexpected or n_5xx or code or "Traceback" in said) and grown <= MAY_GROW
    return {
        "passed": passed,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "benchmarks/soak_serve.py", *sys.argv[1:]]),
        "minutes": arguments.minutes,
        "checked_texts": soak.checked,
        "wrong": soak.wrong[:20],
        "unexpected": soak.unexpected[:20],
        "statuses": dict(sorted(soak.statuses.items())),
        "exit_code": code,
        "said": said[-2000:],
        "memory_growth": round(grown, 4),
        "resident_mb": [round(b / 1e6) for _, b in soak.resident],
        "hardware": hardware(choose_runtime(EngineConfig(dtype=arguments.dtype, memory="return"))),
        "versions": versions(),
    }


if __name__ == "__main__":
    main()
