"""`feathertune serve` as clients see it, with real bundles on loopback."""

import json
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from e2e.cli import in_process
from e2e.server import serving
from feathertune.config import EngineConfig
from feathertune.methods import METHODS
from feathertune.predictor import load
from trained import shipped

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")

TOKEN = "a-long-secret"
FP32 = ["--set", "engine.dtype=fp32", "--set", "engine.device=cpu"]
NAMES = ("lora", "ia3", "prompt")
TEXTS = ["a great film", "the plot is bad", "it was great fun " * 3, "no story", "very very bad", "dull"]
# Of a probability; see tests/conformance/test_serving.py.
ATOL = 1e-5


def place(name):
    return shipped("bert", METHODS[name])[0]


@pytest.fixture(scope="module")
def offline():
    """Every text's answer by `load(bundle).predict`."""
    predictors = {name: load(place(name), engine=EngineConfig(dtype="fp32", device="cpu")) for name in (*NAMES, "full")}
    return {name: dict(zip(TEXTS, one.predict(TEXTS), strict=True)) for name, one in predictors.items()}


@pytest.fixture(scope="module")
def server():
    bundles = [f"{name}={place(name)}" for name in NAMES]
    with serving(*bundles, *FP32, "--body-bytes", "5000", "--timeout-s", "100", token=TOKEN) as running:
        yield running


def assert_offline(answer, texts, offline):
    assert len(answer["predictions"]) == len(texts)
    for text, found in zip(texts, answer["predictions"], strict=True):
        label, probabilities = offline[answer["model"]][text]
        assert found["probabilities"] == pytest.approx(probabilities, rel=0, abs=ATOL)
        assert found["label"] == label


def test_says_what_it_serves_and_never_the_token(server):
    said = "".join(server.said)
    assert "lora: lora on " in said
    assert "batches shared with bundles of its base" in said
    assert "prompt: prompt on" in said
    assert "separate batches: its method has parameters outside the encoder" in said
    assert server.address.startswith("http://127.0.0.1:")
    with open(f"/proc/{server.process.pid}/cmdline", encoding="utf-8") as file:
        assert TOKEN not in file.read()
    assert TOKEN not in said


def test_answers_are_the_offline_ones_for_many_clients_at_once(server, offline):
    def client(seed):
        rng = random.Random(seed)
        connection = server.connect()
        for _ in range(6):
            name, texts = rng.choice(NAMES), rng.sample(TEXTS, rng.randint(1, len(TEXTS)))
            status, answer = server.predict(name, *texts, connection=connection)
            assert status == 200
            assert_offline(answer, texts, offline)
        connection.close()

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(client, range(12)))
    _, metrics = server.ask("GET", "/metrics")
    mixed = [line for line in metrics.splitlines() if line.startswith('feathertune_pass_models_bucket{le="1.0"}')]
    count = [line for line in metrics.splitlines() if line.startswith("feathertune_pass_models_count")]
    assert float(mixed[0].split()[-1]) < float(count[0].split()[-1]), "some passes were of several bundles"


def test_bundles_come_and_go_under_load(server, offline):
    stop = threading.Event()
    statuses = []

    def client(seed):
        rng = random.Random(seed)
        while not stop.is_set():
            name, texts = rng.choice(("lora", "ia3", "guest")), rng.sample(TEXTS, 2)
            status, answer = server.predict(name, *texts)
            statuses.append((name, status))
            if status == 200 and name != "guest":
                assert_offline(answer, texts, offline)
            elif status == 200:
                fits = [all_of for all_of in ("full", "ia3") if _fits(answer, texts, offline[all_of])]
                assert fits, "a guest's answer is that of a bundle it is or was"

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(client, seed) for seed in range(4)]
        try:
            for _ in range(2):
                assert server.ask("PUT", "/v1/models/guest", {"path": str(place("full"))})[0] == 201
                assert server.ask("PUT", "/v1/models/guest", {"path": str(place("ia3"))})[0] == 200
                assert server.ask("DELETE", "/v1/models/guest")[0] == 204
        finally:
            stop.set()
        for one in clients:
            one.result()
    assert {status for name, status in statuses if name != "guest"} == {200}
    assert {status for name, status in statuses if name == "guest"} <= {200, 404}
    refused, why = server.ask("PUT", "/v1/models/guest", {"path": "/nowhere"})
    assert refused == 409
    assert "not a folder" in why["detail"]


def _fits(answer, texts, known):
    pairs = [(known[text][1], found["probabilities"]) for text, found in zip(texts, answer["predictions"], strict=True)]
    return all(found == pytest.approx(expected, rel=0, abs=ATOL) for expected, found in pairs)


def test_clients_that_break_off_hurt_nobody(server, offline):
    place_ = urlsplit(server.address)
    body = json.dumps({"texts": TEXTS}).encode()
    head = (
        f"POST /v1/models/lora:predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    for part in (b"POST", head, head + body[:10], head + body, b"\x16\x03\x01 no HTTP at all\r\n\r\n"):
        for _ in range(5):
            with socket.create_connection((place_.hostname, place_.port)) as client:
                client.sendall(part)
    status, answer = server.predict("lora", *TEXTS)
    assert status == 200
    assert_offline(answer, TEXTS, offline)
    for body, expected in ((b"x" * 6000, 413), (b"{", 400), (b"{}", 422)):
        connection = server.connect()
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/models/lora:predict", body, headers)
        assert connection.getresponse().status == expected
        connection.close()
    deadline = time.monotonic() + 100
    while "feathertune_waiting_texts 0.0" not in server.ask("GET", "/metrics")[1]:
        assert time.monotonic() < deadline, "what nobody waits for is left out"


def test_a_stop_finishes_what_was_taken(server, offline):
    """The last test of this server."""
    connection, other = server.connect(), server.connect()
    assert server.predict("lora", TEXTS[0], connection=connection)[0] == 200
    other.connect()
    results = []
    many = TEXTS * 40

    def ask():
        results.append(server.predict("lora", *many[:200], connection=other))

    thread = threading.Thread(target=ask)
    thread.start()
    deadline = time.monotonic() + 100
    while "feathertune_waiting_texts 0.0" in server.ask("GET", "/metrics")[1] and not results:
        assert time.monotonic() < deadline
    server.process.terminate()
    while server.ask("GET", "/readyz", connection=connection)[0] != 503:
        assert time.monotonic() < deadline
    status, answer = server.predict("lora", TEXTS[0], connection=connection)
    assert status == 503
    assert "stopping" in answer["detail"]
    thread.join(100)
    ((status, answer),) = results
    assert status == 200
    assert_offline(answer, many[:200], offline)
    assert server.process.wait(250) == 0
    connection.close()
    other.close()


def test_bad_input_is_one_line(monkeypatch, capsys, tmp_path):
    lora = place("lora")

    def refused(*arguments):
        result = in_process(monkeypatch, capsys, "serve", *arguments)
        assert result.code == 2
        return result.stderr

    assert "Two bundles are named 'bundle'" in refused(lora, place("ia3"))
    assert "cannot name a bundle" in refused(f"a b={lora}")
    assert "not a folder" in refused(tmp_path / "missing", "--port", "0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "Cannot listen on 127.0.0.1" in refused(lora, "--port", taken.getsockname()[1])
    assert "The port is 70000. Expected 0" in refused(lora, "--port", "70000")
    assert "at least one full request" in refused(lora, "--port", "0", "--queue-texts", "10")
    assert "The limit token_budget is 0" in refused(lora, "--port", "0", "--token-budget", "0")
    short = tmp_path / "token"
    short.write_text("short")
    assert "has 5 characters" in refused(lora, "--token-file", short)
    assert "cannot be read" in refused(lora, "--token-file", tmp_path / "none")
    monkeypatch.setitem(__import__("sys").modules, "uvicorn", None)
    monkeypatch.delitem(__import__("sys").modules, "feathertune.serve.server", raising=False)
    assert "pip install 'feathertune[serve]'" in refused(lora, "--port", "0")
