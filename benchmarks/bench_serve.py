"""Measure how many requests per second `feathertune serve` answers on a CPU.

Run: ``python benchmarks/bench_serve.py``, about twenty minutes; pass ``--seconds 3 --rounds 1`` to try it. It compares

* `feathertune serve` with FastAPI around transformers' pipeline, one request at a time (`pipeline_server`), with one
  text per request;
* eight adapters on one encoder, requested in turn, with one adapter: requests per second, and memory.

In each round, all contestants run in turn: each server in a fresh process, with the clients (`http_clients`) in another
on the same CPU. Before each measurement, the answers to some texts are checked against `load(bundle).predict`. Writes
``results/serve.json``. All processes use torch's default number of threads.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.metadata
import json
import os
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from http_clients import Connection, http

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "serve.json"
SOURCE = "sample:rotten-tomatoes"
N_ADAPTERS = 8
CHECKED_TEXTS = 64
# Largest difference in a probability, by number format: fp32 differs by rounding, bf16 has three digits.
TOLERANCE = {"fp32": 1e-4, "bf16": 0.06}


@dataclass(frozen=True)
class Contestant:
    """A server and its load.

    Attributes:
        name: Name in the tables.
        side: ``serve`` or ``pipeline``.
        dtype: ``fp32``, ``bf16`` or, only for `serve`, ``auto``.
        adapters: Number of bundles served, requested in turn.
    """

    name: str
    side: str
    dtype: str
    adapters: int = 1


AGAINST_PIPELINE = (
    Contestant("pipeline", "pipeline", "fp32"),
    Contestant("pipeline-bf16", "pipeline", "bf16"),
    Contestant("serve-fp32", "serve", "fp32"),
    Contestant("serve", "serve", "auto"),
)
ADAPTERS = (
    Contestant("one-adapter", "serve", "auto"),
    Contestant("eight-adapters", "serve", "auto", N_ADAPTERS),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--warm-up-s", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contestants", help="comma-separated names; default: all")
    parser.add_argument("--train-size", type=int, default=256, help="training rows per adapter")
    parser.add_argument("--bundles", type=Path, help="folder where bundles are created and reused")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.bundles or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-serve-")))
        result = measure(arguments, folder)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Make the bundles, run all rounds, and return the result."""
    from feathertune.config import EngineConfig
    from feathertune.runtime import choose_runtime, hardware, versions

    runtime = choose_runtime(EngineConfig())
    contestants = choose(arguments.contestants, runtime.dtype)
    bundles = make_bundles(folder, arguments.train_size, max(one.adapters for one in contestants))
    texts = sentences()
    offline = answers(bundles, texts[:CHECKED_TEXTS])
    rounds: dict[str, list[dict[str, Any]]] = {one.name: [] for one in contestants}
    for number in range(arguments.rounds):
        for one in contestants:
            tolerance = TOLERANCE[runtime.dtype if one.dtype == "auto" else one.dtype]
            found = run(one, bundles, folder, texts, offline, tolerance, arguments)
            rounds[one.name].append(found)
            speed = f"{found['requests_per_s']:.0f} requests/s, p99 {found['p99_ms']:.0f} ms"
            print(f"round {number + 1}: {one.name}: {speed}, {found['resident_bytes'] / 1e6:.0f} MB", flush=True)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "benchmarks/bench_serve.py", *sys.argv[1:]]),
        "source": SOURCE,
        "clients": arguments.clients,
        "mean_tokens": mean_tokens(texts),
        "hardware": hardware(runtime),
        "versions": {**versions(), **{name: importlib.metadata.version(name) for name in ("fastapi", "uvicorn")}},
        "ratios": ratios(rounds),
        "rounds": rounds,
    }


def choose(names: str | None, fastest: str) -> list[Contestant]:
    """Return the chosen contestants, without bf16 if the CPU does not multiply it faster."""
    known = [one for one in (*AGAINST_PIPELINE, *ADAPTERS) if one.dtype in ("fp32", "auto", fastest)]
    wanted = [one.name for one in known] if names is None else names.split(",")
    if unknown := set(wanted) - {one.name for one in known}:
        raise SystemExit(
            f"Unknown contestant: {', '.join(unknown)}. Expected one of: {', '.join(one.name for one in known)}."
        )
    return [one for one in known if one.name in wanted]


def ratios(rounds: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return ratios of measurements in the same round: median, minimum and maximum."""
    pairs = [
        ("serve", "pipeline"),
        ("serve-fp32", "pipeline"),
        ("serve", "pipeline-bf16"),
        ("eight-adapters", "one-adapter"),
    ]
    found: dict[str, Any] = {}
    for mine, theirs in pairs:
        if mine not in rounds or theirs not in rounds:
            continue
        for what in ("requests_per_s", "p99_ms", "resident_bytes"):
            values = [a[what] / b[what] for a, b in zip(rounds[mine], rounds[theirs], strict=True)]
            if values:
                found[f"{mine} / {theirs}: {what}"] = [statistics.median(values), min(values), max(values)]
    return found


def run(
    one: Contestant,
    bundles: list[Path],
    folder: Path,
    texts: list[str],
    offline: dict[str, list[dict[str, float]]],
    tolerance: float,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Start one server, measure it, and stop it."""
    asked = bundles[: one.adapters]
    with started(one, asked, folder) as (process, port):
        difference = asyncio.run(check(port, [bundle.name for bundle in asked], texts, offline))
        if not difference <= tolerance:
            raise SystemExit(f"{one.name}'s probabilities differ from the bundle's by up to {difference:.3g}.")
        load = [
            {"path": f"/v1/models/{asked[i % len(asked)].name}:predict", "body": {"texts": [text]}}
            for i, text in enumerate(texts)
        ]
        options = {"port": port, "clients": arguments.clients, "seconds": arguments.seconds}
        options["warm-up-s"] = arguments.warm_up_s
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        client = subprocess.run(
            [sys.executable, str(HERE / "http_clients.py"), *words],
            input=json.dumps(load),
            capture_output=True,
            text=True,
            check=True,
        )
        found: dict[str, Any] = json.loads(client.stdout)
        if set(found["statuses"]) != {"200"}:
            raise SystemExit(f"{one.name} answered {found['statuses']}")
        return {**found, "resident_bytes": psutil.Process(process.pid).memory_info().rss, "max_difference": difference}


@contextlib.contextmanager
def started(one: Contestant, bundles: list[Path], folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start a server and yield it once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if one.side == "pipeline":
        dtype = "bfloat16" if one.dtype == "bf16" else "float32"
        command = [str(HERE / "pipeline_server.py"), str(merged(bundles[0], folder)), "--dtype", dtype]
    else:
        command = ["-m", "feathertune", "serve", *map(str, bundles), "--set", f"engine.dtype={one.dtype}"]
        command += ["--set", "engine.device=cpu"]
    process = subprocess.Popen(
        [sys.executable, *command, "--port", str(port)], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 600
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{one.name} did not start: {shlex.join(command)}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.2)
        yield process, port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


async def check(port: int, names: list[str], texts: list[str], offline: dict[str, list[dict[str, float]]]) -> float:
    """Return the largest difference in a probability from the bundles', requesting some texts of all at once."""

    async def ask(name: str) -> float:
        connection = await Connection.open("127.0.0.1", port)
        largest = 0.0
        for i in range(0, CHECKED_TEXTS, 8):
            body = {"texts": texts[i : min(i + 8, CHECKED_TEXTS)]}
            status, content = await connection.ask(http("POST", f"/v1/models/{name}:predict", body))
            assert status == 200, content
            for found, expected in zip(json.loads(content)["predictions"], offline[name][i : i + 8], strict=True):
                largest = max(largest, *(abs(found["probabilities"][label] - p) for label, p in expected.items()))
        connection.close()
        return largest

    return max(await asyncio.gather(*(ask(name) for name in names)))


def make_bundles(folder: Path, train_size: int, n: int) -> list[Path]:
    """Train adapters with different seeds on sample:minilm, or reuse existing ones."""
    from feathertune import finetune
    from feathertune.config import load_config

    options = {"data.source": SOURCE, "data.train_size": train_size, "data.validation_size": 100, "data.test_size": 100}
    config = load_config(options={**options, "train.epochs": 1, "data.max_length": 128})
    bundles = [folder / f"lora-{seed}" for seed in range(n)]
    for seed, bundle in enumerate(bundles):
        if not bundle.exists():
            finetune(config, bundle, method="lora", seed=seed)
    return bundles


def merged(bundle: Path, folder: Path) -> Path:
    """Export the bundle as one merged model."""
    from feathertune import export_model

    target = folder / "merged"
    if not target.exists():
        export_model(bundle, target)
    return target


def sentences() -> list[str]:
    """Return sentences in a fixed order that mixes the classes."""
    from random import Random

    from feathertune.data.sources.registry import load_source

    texts = list(load_source(SOURCE).texts)
    Random(0).shuffle(texts)
    return texts[:4000]


def mean_tokens(texts: list[str]) -> float:
    """Return the mean number of tokens per text, including special tokens."""
    from transformers import AutoTokenizer

    from feathertune.data.sources.samples import sample_encoder_path
    from feathertune.data.tokens.encode import encode

    tokenizer = AutoTokenizer.from_pretrained(sample_encoder_path("minilm"))
    return float(encode(tokenizer, texts, max_length=128).lengths.mean())


def answers(bundles: list[Path], texts: list[str]) -> dict[str, list[dict[str, float]]]:
    """Return each bundle's probabilities, computed alone in fp32."""
    from feathertune import load
    from feathertune.config import EngineConfig

    engine = EngineConfig(dtype="fp32", device="cpu", memory="return")
    return {bundle.name: [p for _, p in load(bundle, engine=engine).predict(texts)] for bundle in bundles}


def table(result: dict[str, Any]) -> str:
    """Return the result as text for a terminal."""
    lines = [f"{name}: {m:.2f} ({low:.2f} to {high:.2f})" for name, (m, low, high) in result["ratios"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
