"""A server in a process of its own: its memory after abuse, a load that hangs, and its end."""

import contextlib
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from e2e.cli import ENVIRONMENT
from e2e.server import Server
from feathertune.methods import METHODS
from trained import shipped

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")

TOKEN = "a-long-secret"
# Loads of folders called `hang` never end, and are busy in torch.
PROGRAM = """
import torch
import feathertune.bundle as bundle
load = bundle.load_bundle
def load_or_hang(path, **more):
    while path.name == "hang":
        torch.ones(300, 300) @ torch.ones(300, 300)
    return load(path, **more)
bundle.load_bundle = load_or_hang
from feathertune.cli import main
main()
"""
MEGABYTE = "x" * 20_000


@contextlib.contextmanager
def hanging_server(*arguments):
    command = [sys.executable, "-c", PROGRAM, "serve", *arguments, "--port", "0"]
    environment = {**ENVIRONMENT, "FEATHERTUNE_TOKEN": TOKEN}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = []
            while not (found := re.search(r"Listening on (\S+)", "".join(said))):
                said.append(process.stderr.readline())
                assert said[-1], said
            yield Server(process, found[1], said, TOKEN)
            assert process.stderr.read() == ""
        finally:
            process.kill()


@pytest.mark.slow
def test_memory_returns_and_a_load_that_hangs_ends_with_the_server():
    settings = ["--set", "engine.dtype=fp32", "--set", "engine.device=cpu", "--load-s", "1"]
    bundle = shipped("bert", METHODS["lora"])[0]
    with hanging_server(f"a={bundle}", *settings) as server:
        process = psutil.Process(server.process.pid)

        def abuse(body, n):
            with ThreadPoolExecutor(8) as pool:
                return Counter(pool.map(lambda _: server.ask("POST", "/v1/models/a:predict", body)[0], range(n)))

        assert server.predict("a", "a great film")[0] == 200
        (model,) = server.ask("GET", "/v1/models")[1]["models"]
        assert "/" not in model["base"]["id"], "clients need not know this machine's folders"
        before = process.memory_info().rss
        assert abuse({"texts": [MEGABYTE] * 50}, 50) == {200: 50}
        assert abuse({"texts": [MEGABYTE] * 60}, 200) == {413: 200}
        assert abuse({"texts": [""] * 200, "more": [[]] * 200_000}, 200) == {422: 200}
        deadline = time.monotonic() + 30
        while process.memory_info().rss > before + max(60e6, 0.15 * before):
            assert time.monotonic() < deadline, (before, process.memory_info().rss)
            time.sleep(0.5)

        late = []
        loading = threading.Thread(target=lambda: late.append(server.ask("PUT", "/v1/models/b", {"path": "/x/hang"})))
        loading.start()
        while loading.is_alive():
            assert server.ask("GET", "/healthz")[0] == 200
            assert server.predict("a", "a great film")[0] == 200
        assert late[0][0] == 504
        assert server.ask("PUT", "/v1/models/b", {"path": str(bundle)})[0] == 503
        server.process.terminate()
        begin = time.monotonic()
        assert server.process.wait(60) == 0
        assert time.monotonic() < begin + 15
