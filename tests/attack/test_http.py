"""HTTP as attackers speak it: too large, too slow, malformed, or under another name."""

import json
import socket
import threading
import time
from dataclasses import replace

import pytest

from attack.http_server import BODY, HOST, LIMITS, TOKEN, attacked, chunked, get, post
from feathertune.errors import ConfigError
from serving import FakeModel, FakeModels, fakes

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")

from feathertune.serve.batcher import NotFinite
from feathertune.serve.hosts import AllowedHosts
from feathertune.serve.server import listen

CLOSE = b"Connection: close\r\n"


@pytest.fixture(scope="module")
def server():
    with attacked() as server:
        yield server


LARGE = {
    "a long header": get("/healthz", b"A: " + b"x" * (1 << 20) + b"\r\n"),
    "a header of a little too much": get("/healthz", b"A: " + b"x" * 16_400 + b"\r\n"),
    "a long header without an end": get("/healthz", b"A: " + b"x" * (1 << 20)),
    "a long name": get("/healthz", b"x" * (1 << 20)),
    "a long address": get("/" + "x" * (1 << 20)),
    "many headers": get("/healthz", b"".join(b"A%d: b\r\n" % i for i in range(10_000))),
    "a few headers too many": get("/healthz", b"A: b\r\n" * 100),
    "a long chunk extension": chunked(b"5;" + b"x" * (1 << 20)),
    "long trailers": chunked(b"0\r\nA: " + b"x" * (1 << 20)),
}


@pytest.mark.parametrize("data", LARGE.values(), ids=LARGE)
def test_large_headers_are_431_at_once(server, data):
    answer = server.send(data)
    assert answer.status == 431
    assert "The header " in answer.detail
    assert answer.closed
    assert answer.seconds < 0.4


SLOW = {
    "nothing": b"",
    "empty lines": b"\r\n" * 100,
    "half a line": b"GET / HT",
    "half a header": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nA: b",
    "half a body": post(length=100),
    "chunks without an end": chunked(b"5\r\nabcde\r\n"),
    "a chunk larger than memory": chunked(b"7FFFFFFFFFFFFFFF\r\nabc"),
}


@pytest.mark.parametrize("data", SLOW.values(), ids=SLOW)
def test_what_does_not_end_is_408(server, data):
    answer = server.send(data)
    assert answer.status == 408
    assert "was not complete after 0.5 s" in answer.detail
    assert answer.closed
    assert 0.3 < answer.seconds < 5


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_trickle_does_not_extend_the_time(server, part):
    whole = post()
    start = 0 if part == "head" else len(whole) - len(BODY)
    with server.connect() as client:
        client.sendall(whole[:start])
        begin = time.monotonic()
        with pytest.raises(OSError):  # noqa: PT012 - whichever byte is the first after the end
            for at in range(start, len(whole)):
                client.sendall(whole[at : at + 1])
                time.sleep(0.05)
                if time.monotonic() > begin + 0.8:
                    assert client.recv(12) == b"HTTP/1.1 408"
                    raise OSError
        assert time.monotonic() < begin + 5


def test_an_idle_connection_is_closed(server):
    answer = server.send(get("/healthz"))
    assert answer.status == 200
    assert answer.closed
    assert answer.seconds > 0.3
    used = server.send(get("/healthz") + b"\r\n\r\n")
    assert used.status == 200  # and no second answer to the empty lines
    assert used.closed


NO_HTTP = {
    "a length and chunks": chunked(b"").replace(b"\r\n\r\n", b"\r\nContent-Length: 4\r\n\r\n") + b"0\r\n\r\n",
    "two lengths": post(more=b"Content-Length: 3\r\n"),
    "a negative length": post(length=-5),
    "a chunk of 72 bits": chunked(b"FFFFFFFFFFFFFFFFFF\r\n"),
    "a null byte in the address": get("/v1/models\0"),
    "bytes in the address": b"GET /\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n",
    "a null byte in a header": get("/healthz", b"A: \0\r\n"),
    "a folded header": get("/healthz", b"A: b\r\n c\r\n"),
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "another version": get("/healthz").replace(b"1.1", b"7.3"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 500,
    "a tunnel": b"CONNECT evil.example:443 HTTP/1.1\r\n" + HOST + b"\r\n",
}


@pytest.mark.parametrize("data", NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_http_is_400(server, data):
    answer = server.send(data)
    assert answer.status == 400
    assert isinstance(answer.detail, str)
    assert answer.closed


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"127.0.0.1", 200),
        (b"127.0.0.1:%d", 200),
        (b"localhost", 200),
        (b"LOCALHOST.:%d", 200),
        (b"[::1]:%d", 200),
        (b"[0:0:0:0:0:0:0:1]", 200),
        (b"api.example.org", 200),
        (b"other.example.org:9000", 200),
        (b"other.example.org", 421),
        (b"localhost:1", 421),
        (b"evil.example", 421),
        (b"evil.example:%d", 421),
        (b"127.0.0.1.evil.example", 421),
        (b"localhost@evil.example", 421),
        (b"10.0.0.1", 421),
        (b"127.1", 421),
        (b"", 421),
        (b"\xff", 421),
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/", "/nowhere"])
def test_only_its_own_hosts_are_answered(server, host, status, path):
    host = host.replace(b"%d", b"%d" % server.port)
    answer = server.send(get(path, CLOSE, b"Host: " + host + b"\r\n"))
    assert answer.status == (404 if status == 200 and path == "/nowhere" else status)
    if status == 421:
        assert "--allowed-host NAME" in answer.detail
        assert b"evil" not in answer.content


def test_one_host_is_expected(server):
    assert server.send(get("/v1/models", CLOSE, b"")).status == 400
    twice = server.send(get("/v1/models", CLOSE, HOST * 2))
    assert (twice.status, twice.detail) == (400, "Expected one Host header, found 2.")


def test_a_whole_address_names_the_same_host(server):
    here = f"http://127.0.0.1:{server.port}/healthz"
    same = b"Host: 127.0.0.1:%d\r\n" % server.port
    assert server.send(get(here, CLOSE, same)).status == 200
    assert server.send(get("http://evil.example/v1/models", CLOSE)).status == 400
    assert server.send(get(here, CLOSE, b"Host: evil.example\r\n")).status == 400
    evil = server.send(get("http://evil.example/v1/models", CLOSE, b"Host: evil.example\r\n"))
    assert evil.status == 421


def test_hosts_of_a_server_on_all_addresses():
    with listen("0.0.0.0", 0) as opened:
        port = opened.getsockname()[1]
        hosts = AllowedHosts(opened, ["0.0.0.0"])
        for host in ("10.1.2.3", f"10.1.2.3:{port}", "[fe80::1]", "localhost"):
            assert hosts.takes(host.encode()), host
        for host in ("evil.example", "10.1.2.3:1", "10.1.2", "[fe80::1"):
            assert not hosts.takes(host.encode()), host
        assert AllowedHosts(opened, ["*"]).takes(b"evil.example:9")
        with pytest.raises(ConfigError, match="--allowed-host is 'http://a/'"):
            AllowedHosts(opened, ["http://a/"])


def test_another_sites_page_cannot_use_it(server):
    evil = b"Origin: http://evil.example\r\n" + CLOSE
    asking = get("/v1/models/a:predict", evil + b"Access-Control-Request-Method: POST\r\n")
    preflight = server.send(asking.replace(b"GET", b"OPTIONS"))
    assert preflight.status == 405
    simple = server.send(post(more=evil).replace(b"application/json", b"text/plain"))
    assert simple.status == 415
    for answer in (preflight, simple, server.send(get("/v1/models", evil))):
        assert b"access-control" not in answer.content.lower()


def test_pipelined_requests_are_answered_in_order_and_bounded(server):
    three = server.send(get("/healthz") + post() + get("/nowhere", CLOSE))
    assert three.statuses == [200, 200, 404]
    many = server.send(get("/healthz") * 5000)
    assert many.statuses == [200]  # the first, and no more
    assert many.closed
    junk = server.send(post() + b"\0JUNK\r\n\r\n")
    assert junk.statuses == [200]
    assert junk.closed
    upgrade = server.send(get("/healthz", b"Connection: Upgrade\r\nUpgrade: websocket\r\n") + b"\x81\x05hello")
    assert upgrade.statuses[0] == 200
    assert upgrade.closed


def test_clients_that_leave_with_requests_queued_are_forgotten(server):
    for _ in range(20):
        with server.connect() as client:
            client.sendall(post() * 3 + post(length=100))
    assert server.works()
    assert server.said == []


@pytest.mark.parametrize("size", [2 << 20, 20 << 20])
def test_a_large_body_gets_its_answer(server, size):
    answer = server.send(post(b"x" * size))
    assert answer.status == 413
    assert server.send(post(b"x" * size, path="/v1/models/c:predict")).status == 404
    endless = server.send(chunked((b"10000\r\n" + b"x" * 0x10000 + b"\r\n") * 40))
    assert endless.status == 413
    assert endless.closed


def test_a_full_house_is_503_until_a_client_is_done_or_idle():
    with attacked(replace(LIMITS, connections=3)) as server:
        server.models.go.clear()
        clients = [server.connect() for _ in range(3)]
        for client in clients[:2]:
            client.sendall(post())
        deadline = time.monotonic() + 20
        while server.service.batcher.n_waiting < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        refused = server.send(get("/healthz"))
        assert (refused.status, refused.detail) == (503, "More than 3 clients are connected. Retry later.")
        assert refused.closed
        with clients[2] as idle:
            assert idle.recv(12) == b"HTTP/1.1 408"
        while not server.works():
            assert time.monotonic() < deadline
        server.models.go.set()
        for client in clients[:2]:
            assert client.recv(12) == b"HTTP/1.1 200"
            client.close()


@pytest.mark.parametrize("n", [1, 10])
def test_an_answer_that_nobody_reads_is_dropped(n):
    models = FakeModels({name: FakeModel(name) for name in map("m{}".format, range(10_000))})
    with attacked(models=models) as server, server.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(get("/v1/models") * n)  # each answer has 3 MB
        deadline = time.monotonic() + 20
        time.sleep(0.3)
        while server.connections:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert server.works()


def test_a_stop_does_not_wait_for_half_a_request():
    begin = time.monotonic()
    with attacked(replace(LIMITS, body_s=60, header_s=60, idle_s=60)) as server:
        half = [server.connect() for _ in range(3)]
        for client, data in zip(half, (b"", b"GET / HT", post(length=100)), strict=True):
            client.sendall(data)
        assert server.works()
    assert time.monotonic() < begin + 5
    assert half[2].recv(12) == b"HTTP/1.1 503"
    for client in half:
        client.close()


class _SlowModels(FakeModels):
    """`read` of a folder called `good-slow` waits for `loaded`."""

    def read(self, path, base=None):
        if path.name == "good-slow":
            assert self.loaded.wait(200)
        if path.name == "good-odd":
            raise KeyError("a\x1b[31mkey")
        return super().read(path, base)


def test_a_load_that_hangs_holds_up_nobody():
    models = _SlowModels({"a": FakeModel("a")})
    models.loaded = threading.Event()
    key = b"Authorization: Bearer " + TOKEN.encode() + b"\r\n" + CLOSE

    def put(name, folder):
        return server.send(post(b'{"path": "/x/%s"}' % folder, key, path=f"/v1/models/{name}").replace(b"POST", b"PUT"))

    with attacked(token=TOKEN, models=models) as server:
        assert put("c", b"good").status == 201
        old = models["c"]
        answers = []
        thread = threading.Thread(target=lambda: answers.append(put("c", b"good-slow")))
        thread.start()
        while thread.is_alive():
            assert server.works()
            assert server.send(post(more=key)).status == 200
        (late,) = answers
        assert late.status == 504
        assert "did not load within 0.5 s (--load-s)" in late.detail
        assert models["c"] is old
        again = put("d", b"good")
        assert again.status == 503
        assert "still loading" in again.detail
        assert server.send(get("/v1/models/b", key).replace(b"GET", b"DELETE")).status == 404
        models.loaded.set()
        deadline = time.monotonic() + 20
        while put("d", b"good").status == 503:
            assert time.monotonic() < deadline
        assert models["c"] is old, "what came too late does not answer"
        odd = put("e", b"good-odd")
        assert odd.status == 409
        assert odd.detail == "The bundle cannot be loaded: KeyError: 'a\\x1b[31mkey'."
        models.loaded.clear()
        threading.Thread(target=put, args=("f", b"good-slow")).start()
        time.sleep(0.1)
        begin = time.monotonic()
    assert time.monotonic() < begin + 5, "a stop does not wait for it"
    models.loaded.set()


def test_numbers_that_are_not_finite_fail_their_request_alone():
    class Models(FakeModels):
        def run(self, rows, *, worker, alone):
            answers = super().run(rows, worker=worker, alone=alone)
            return [
                NotFinite(model.name) if model.name == "bad" else answer
                for (model, _), answer in zip(rows, answers, strict=True)
            ]

    models = Models({name: FakeModel(name) for name in ("a", "bad")})
    with attacked(models=models) as server:
        models.go.clear()
        first = server.connect()
        first.sendall(post(more=CLOSE))
        assert models.begun.wait(20)
        with server.connect() as good, server.connect() as bad:
            good.sendall(post(more=CLOSE))
            bad.sendall(post(more=CLOSE, path="/v1/models/bad:predict"))
            deadline = time.monotonic() + 20
            while server.service.batcher.n_waiting < 3:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            models.go.set()
            assert good.recv(65536).startswith(b"HTTP/1.1 200")
            failed = bad.recv(65536)
            assert failed.startswith(b"HTTP/1.1 500")
            assert b"The bundle 'bad' computed NaN or infinity" in failed
        first.close()
        assert [len(one) for one in models.passes] == [1, 2], "they shared a pass"


def test_a_defect_is_500_in_words(server):
    others, models = server, fakes()
    models.fail = RuntimeError("a defect in /a/folder")
    with attacked(models=models, may_fail=True) as server:
        failed = server.send(post(more=CLOSE))
        assert failed.status == 500
        assert failed.detail == "Internal error. See the server's log."
        models.fail = None
        assert server.send(post(more=CLOSE)).status == 200
    others.said.clear()  # which share a log
    assert len(server.said) == 2
    assert all("RuntimeError: a defect in /a/folder" in line and "\n" not in line for line in server.said)


def test_answers_echo_no_control_characters_and_few_faults(server):
    key = '"\\u001b[31m\\u0007\\u202e' + "x" * 5000 + '"'
    answer = server.send(post(f'{{"texts": ["x"], {key}: 1}}'.encode(), CLOSE))
    assert answer.status == 422
    (fault,) = answer.detail
    assert fault["loc"][1].isprintable()
    assert len(fault["loc"][1]) < 1100
    begin = time.monotonic()
    many = server.send(post(("{" + ", ".join(f'"{i}": 1' for i in range(80_000)) + "}").encode(), CLOSE))
    assert (many.status, len(many.detail)) == (422, 1)
    assert time.monotonic() < begin + 0.4, "nobody else is answered meanwhile"
    wrong = server.send(post(f'{{"texts": {[1] * 200}}}'.encode(), CLOSE))
    assert (wrong.status, len(wrong.detail)) == (422, 20)


def test_answers_hold_no_raw_control_characters(server):
    text = "a\u009b31m\u202eb\x7f"
    answer = server.send(post(json.dumps({"texts": [text]}).encode(), CLOSE))
    assert answer.status == 200
    body = answer.content.rpartition(b"\r\n\r\n")[2]
    assert body.decode().isprintable()
    assert json.loads(body)["predictions"][0]["label"] == f"a:{text}"
