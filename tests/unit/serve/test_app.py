"""What each address answers, and with which status; the bundles are none, the app is whole."""

import asyncio
import json
import logging
from dataclasses import replace

import pytest

from feathertune.serve import schemas
from serving import SMALL, fakes, running

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")

from feathertune.serve.service import Service

TOKEN = "a-long-secret"


def run(scenario, models=None, limits=SMALL, token=None):
    models = models or fakes("a", "b")

    async def whole():
        service = Service(models, limits, token)
        async with running(service, token) as client:
            try:
                return await asyncio.wait_for(scenario(client, service, models), 200)
            finally:
                models.go.set()

    return asyncio.run(whole())


def detail(reply):
    return reply.json["detail"]


def test_predicts_in_the_words_of_the_command():
    async def scenario(client, service, models):
        reply = await client.predict("one", "two words")
        assert reply.status == 200
        assert reply.headers["content-type"] == "application/json"
        probabilities = {"no": 0.25, "yes": 0.75}
        assert reply.json == {
            "model": "a",
            "predictions": [{"label": f"a:{text}", "probabilities": probabilities} for text in ("one", "two words")],
        }
        schemas.Predictions.model_validate(reply.json)
        assert (await client.predict("ümläut 😀", name="b")).json["predictions"][0]["label"] == "b:ümläut 😀"

    run(scenario)


def test_lists_and_shows_bundles():
    async def scenario(client, service, models):
        listed = await client.ask("GET", "/v1/models")
        assert [one["name"] for one in schemas.ModelList.model_validate(listed.json).model_dump()["models"]] == [
            "a",
            "b",
        ]
        assert (await client.ask("GET", "/v1/models/b")).json == listed.json["models"][1]
        unknown = await client.ask("GET", "/v1/models/bb")
        assert unknown.status == 404
        assert "Did you mean 'b'?" in detail(unknown)
        assert (await client.predict("x", name="c")).status == 404

    run(scenario)


@pytest.mark.parametrize(
    ("body", "where", "what"),
    [
        ({}, "texts", "Field required"),
        ({"texts": []}, "texts", "at least 1"),
        ({"texts": ["x"] * 5}, "texts", "at most 4"),
        ({"texts": ["fine", "x" * 101]}, "1", "at most 100"),
        ({"texts": ["fine", ""]}, "1", "at least 1"),
        ({"texts": [" \n\t"]}, "0", "pattern"),
        ({"texts": ["a\0b"]}, "0", "pattern"),
        ({"texts": "x"}, "texts", "array"),
        ({"texts": [3]}, "0", "string"),
        ({"texts": ["x"], "more": 1}, "more", "not permitted"),
        ([], "body", "object"),
        (None, "body", "object"),
    ],
)
def test_what_is_not_as_it_must_be_is_named(body, where, what):
    async def scenario(client, service, models):
        reply = await client.ask("POST", "/v1/models/a:predict", json.dumps(body).encode(), headers=JSON)
        assert reply.status == 422
        (fault,) = schemas.Invalid.model_validate(reply.json).detail
        assert str(fault.loc[-1]) == where
        assert what in fault.msg
        assert models.passes == []

    run(scenario)


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("content", "headers", "status", "what"),
    [
        (b"{", JSON, 400, "not JSON: EOF"),
        (b"", JSON, 400, "not JSON"),
        (b'{"texts": ["\xff"]}', JSON, 400, "not JSON"),
        (rb'{"texts": ["\ud800"]}', JSON, 400, "not JSON"),
        (b'{"texts": ["x"]}', {"content-type": "text/plain"}, 415, "must be JSON"),
        (b'{"texts": ["x"]}', {"content-type": "application/json; charset=utf-8"}, 200, None),
        (b'{"texts": ["' + b"x" * 1000 + b'"]}', JSON, 413, "1000 bytes"),
    ],
)
def test_bodies_that_are_none(content, headers, status, what):
    async def scenario(client, service, models):
        reply = await client.ask("POST", "/v1/models/a:predict", content, headers=headers)
        assert reply.status == status
        assert what is None or what in detail(reply)

    run(scenario)


def test_a_body_that_does_not_say_its_length_is_cut_off():
    async def scenario(client, service, models):
        reply = await client.ask("POST", "/v1/models/a:predict", chunks=[b"x" * 400] * 1000)
        assert reply.status == 413
        lies = await client.ask("POST", "/v1/models/a:predict", b"x" * 2000, headers={"content-length": "10"})
        assert lies.status == 413

    run(scenario)


def test_a_full_queue_is_429_with_a_time_and_then_it_goes_on():
    async def scenario(client, service, models):
        models.go.clear()
        first = asyncio.ensure_future(client.predict("first"))
        await asyncio.to_thread(models.begun.wait, 100)
        rest = [asyncio.ensure_future(client.predict(*"xyz")) for _ in range(2)]
        await asyncio.sleep(0.05)
        full = await client.predict("one", "more")
        assert full.status == 429
        assert int(full.headers["retry-after"]) >= 1
        models.go.set()
        assert [reply.status for reply in await asyncio.gather(first, *rest)] == [200] * 3
        assert (await client.predict("one", "more")).status == 200

    run(scenario)


def test_what_takes_too_long_is_504():
    async def scenario(client, service, models):
        models.go.clear()
        reply = await client.predict("late")
        assert (reply.status, detail(reply)) == (504, "The request took longer than 0.1 s.")

    run(scenario, limits=replace(SMALL, timeout_s=0.1))


def test_a_client_that_leaves_is_not_worked_for():
    async def scenario(client, service, models):
        models.go.clear()
        first = asyncio.ensure_future(client.predict("first"))
        await asyncio.to_thread(models.begun.wait, 100)
        leave = asyncio.Event()
        gone = asyncio.ensure_future(client.predict("gone", leave=leave))
        await asyncio.sleep(0.05)
        assert service.batcher.n_waiting == 2
        leave.set()
        assert (await gone).status == 499
        models.go.set()
        await first
        assert (await client.predict("next")).status == 200

    models = fakes()
    run(scenario, models)
    assert models.passes == [["first"], ["next"]]


def test_a_defect_is_500_and_the_server_goes_on(caplog):
    async def scenario(client, service, models):
        models.fail = RuntimeError("a defect")
        with pytest.raises(RuntimeError, match="a defect"):  # the framework answers first, then passes it on to the log
            await client.predict("x")
        models.fail = None
        assert (await client.predict("x")).status == 200
        assert 'code="500"' in (await client.ask("GET", "/metrics")).body.decode()

    with caplog.at_level(logging.CRITICAL, "feathertune.serve"):
        run(scenario)


def test_says_that_it_stops():
    async def scenario(client, service, models):
        assert [(await client.ask("GET", path)).status for path in ("/healthz", "/readyz")] == [200, 200]
        models.go.clear()
        taken = asyncio.ensure_future(client.predict("taken"))
        await asyncio.to_thread(models.begun.wait, 100)
        service.stopping = True
        assert [(await client.ask("GET", path)).status for path in ("/healthz", "/readyz")] == [200, 503]
        late = await client.predict("late")
        assert late.status == 503
        assert "retry-after" in late.headers
        models.go.set()
        assert (await taken).status == 200

    run(scenario)


def test_health_sees_that_the_thread_has_ended():
    async def scenario(client, service, models):
        await service.batcher.close()
        assert (await client.ask("GET", "/healthz")).status == 503

    run(scenario)


def test_a_token_guards_all_but_pages_and_health():
    async def scenario(client, service, models):
        guarded = [
            ("GET", "/v1/models"),
            ("GET", "/v1/models/a"),
            ("POST", "/v1/models/a:predict"),
            ("PUT", "/v1/models/c"),
            ("DELETE", "/v1/models/a"),
            ("GET", "/metrics"),
        ]
        for given in (None, "wrong", TOKEN[:-1], TOKEN + "x", "ä"):
            client.token = given
            for method, path in guarded:
                reply = await client.ask(method, path, {"texts": ["x"]} if method == "POST" else None)
                assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer"), (given, path)
            for path in ("/", "/docs", "/openapi.json", "/healthz", "/readyz"):
                assert (await client.ask("GET", path)).status == 200
        client.token = TOKEN
        assert (await client.predict("x")).status == 200
        assert (await client.ask("GET", "/v1/models", headers={"authorization": f"Basic {TOKEN}"})).status == 401

    models = fakes()
    run(scenario, models, token=TOKEN)
    assert models.passes == [["x"]]
    assert list(models.by_name) == ["a"]


def test_bundles_come_and_go():
    async def scenario(client, service, models):
        new = await client.ask("PUT", "/v1/models/c", {"path": "/x/good"})
        assert (new.status, new.json["name"]) == (201, "c")
        before = models["c"]
        assert (await client.predict("x", name="c")).status == 200
        assert (await client.ask("PUT", "/v1/models/c", {"path": "/x/good"})).status == 200
        assert models["c"] is not before
        for path in ("/x/bad", "nul\0l"):
            refused = await client.ask("PUT", "/v1/models/d", {"path": path})
            assert refused.status == 409
            assert "bundle" in detail(refused)
        assert (await client.ask("PUT", "/v1/models/d", {"path": ""})).status == 422
        assert (await client.ask("PUT", "/v1/models/-d", {"path": "/x/good"})).status == 422
        gone = await client.ask("DELETE", "/v1/models/c")
        assert (gone.status, gone.body) == (204, b"")
        assert (await client.ask("DELETE", "/v1/models/c")).status == 404
        assert (await client.predict("x", name="c")).status == 404
        assert 'model="c"' not in (await client.ask("GET", "/metrics")).body.decode()
        service.stopping = True
        assert (await client.ask("PUT", "/v1/models/c", {"path": "/x/good"})).status == 503
        assert (await client.ask("DELETE", "/v1/models/a")).status == 503

    run(scenario, token=TOKEN)


def test_a_bundle_that_goes_finishes_what_it_has():
    async def scenario(client, service, models):
        models.go.clear()
        first = asyncio.ensure_future(client.predict("first"))
        await asyncio.to_thread(models.begun.wait, 100)
        waiting = asyncio.ensure_future(client.predict("waiting"))
        await asyncio.sleep(0.05)
        assert (await client.ask("DELETE", "/v1/models/a")).status == 204
        models.go.set()
        assert [reply.status for reply in await asyncio.gather(first, waiting)] == [200, 200]

    run(scenario, token=TOKEN)


def test_without_a_token_nobody_changes_bundles():
    async def scenario(client, service, models):
        for method in ("PUT", "DELETE"):
            reply = await client.ask(method, "/v1/models/a", {"path": "/x/good"})
            assert reply.status == 403
            assert "--token-file" in detail(reply)

    models = fakes()
    before = models["a"]
    run(scenario, models)
    assert models["a"] is before


def test_other_methods_are_refused_with_those_that_there_are():
    async def scenario(client, service, models):
        reply = await client.ask("PATCH", "/v1/models/a")
        assert (reply.status, reply.headers["allow"]) == (405, "DELETE, GET, PUT")
        assert detail(reply) == "PATCH is not allowed here. Allowed: DELETE, GET, PUT."
        reply = await client.ask("PUT", "/v1/models/a:predict", {"path": "/x/good"})
        assert (reply.status, reply.headers["allow"]) == (405, "POST")
        assert (await client.ask("GET", "/v1/models/a:b")).status == 404

    run(scenario, token=TOKEN)


def test_metrics_are_by_route_and_not_by_address():
    async def scenario(client, service, models):
        await client.predict("x", "y")
        await client.predict("x", name="unheard-of")
        await client.ask("GET", "/some/address")
        reply = await client.ask("GET", "/metrics")
        assert reply.headers["content-type"].startswith("text/plain")
        return reply.body.decode()

    text = run(scenario)
    assert 'feathertune_requests_total{code="200",route="/v1/models/{name}:predict"} 1.0' in text
    assert 'feathertune_requests_total{code="404",route="/v1/models/{name}:predict"} 1.0' in text
    assert 'route="other"' in text
    assert 'feathertune_texts_total{model="a"} 2.0' in text
    assert "feathertune_pass_texts_count 1.0" in text
    assert "feathertune_models 2.0" in text
    assert "process_resident_memory_bytes" in text
    assert "unheard-of" not in text
    assert "/some/address" not in text


def test_pages_load_nothing_from_elsewhere():
    async def scenario(client, service, models):
        for path in ("/", "/docs"):
            reply = await client.ask("GET", path)
            assert reply.headers["content-type"].startswith("text/html")
            policy = reply.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "http" not in policy
            html = reply.body.decode()
            assert "http:" not in html
            assert "https:" not in html
            assert "innerHTML" not in html

    run(scenario)


def test_openapi_names_every_status():
    async def scenario(client, service, models):
        return (await client.ask("GET", "/openapi.json")).json

    api = run(scenario)
    predict = api["paths"]["/v1/models/{name}:predict"]["post"]
    assert set(predict["responses"]) == {"200", "400", "404", "413", "415", "422", "429", "503", "504"}
    assert predict["requestBody"]["content"]["application/json"]["schema"]["properties"]["texts"]["maxItems"] == 4
    assert "security" not in predict
    assert "/" not in api["paths"]
    guarded = run(scenario, token=TOKEN)
    for path, methods in guarded["paths"].items():
        for method, operation in methods.items():
            assert ("401" in operation["responses"]) == ("security" in operation) == path.startswith(("/v1", "/met")), (
                path,
                method,
            )
