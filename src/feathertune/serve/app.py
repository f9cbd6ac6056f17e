"""The HTTP side: each address's answers and status codes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import fastapi
import fastapi.responses
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route

import feathertune
from feathertune.errors import FeathertuneError, UnknownNameError, first_line
from feathertune.predictor import as_fields
from feathertune.serve import pages, schemas
from feathertune.serve.batcher import NotFinite, QueueFull, Stopping
from feathertune.serve.service import LoadTooSlow, Service, StillLoading

_JSON = "application/json"
_LONG_BODY, _MOST_FIELDS = 4096, 16
_CLIENT_IS_GONE = 499  # nginx's code, for the counters
_STOPPING, _STOPPING_AGAIN_S = "The server stops. Ask again: another may be there.", 5
_NOT_FINITE = "The bundle '{name}' gave a number that is not finite for one of these texts. Load a sound bundle."
_STILL_LOADING = "An earlier bundle is still being loaded, though it took too long. Try again later."
_LOAD_TOO_SLOW = "The bundle was not loaded within {seconds:g} s (--load-s). What answered before still does."
_FAILED = "The server failed at this request. Its log has the reason."
_ONE_MODEL = "/v1/models/{name:bundle}"

Name = Annotated[str, fastapi.Path(pattern=schemas.NAME_PATTERN, description="The bundle's name.")]
_CONTROLS = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")  # that JSON leaves as they are, and terminals do not
_log = logging.getLogger("feathertune.serve")
T = TypeVar("T", bound=BaseModel)
Answers = dict[int | str, dict[str, Any]]  # by status, for OpenAPI


def create_app(service: Service) -> FastAPI:
    """Return the app of a service, whose threads start and end with it."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.batcher.start()
        yield
        await service.close()

    app = FastAPI(
        title="feathertune",
        version=feathertune.__version__,
        summary="Labels and probabilities of texts, by bundles that share an encoder.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load scripts from elsewhere; `pages` has one that does not
        redoc_url=None,
        redirect_slashes=False,  # behind a proxy with TLS it would lead to an address without
    )
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ClientDisconnect, _left)
    app.add_exception_handler(405, _other_methods)
    app.add_exception_handler(Exception, _failed)
    refusals: dict[type[Exception], Callable[[Any], HTTPException]] = {
        UnknownNameError: lambda error: HTTPException(404, str(error)),
        QueueFull: lambda full: HTTPException(429, f"{full}.", {"Retry-After": str(full.retry_after_s)}),
        Stopping: lambda _: HTTPException(503, _STOPPING, {"Retry-After": str(_STOPPING_AGAIN_S)}),
        TimeoutError: lambda _: HTTPException(504, f"It took longer than {service.limits.timeout_s:g} s."),
        NotFinite: lambda error: HTTPException(500, _NOT_FINITE.format(name=error)),
        StillLoading: lambda _: HTTPException(503, _STILL_LOADING, {"Retry-After": str(_STOPPING_AGAIN_S)}),
        LoadTooSlow: lambda _: HTTPException(504, _LOAD_TOO_SLOW.format(seconds=service.limits.load_s)),
    }
    for kind, refusal in refusals.items():
        app.add_exception_handler(kind, _refusing(refusal))
    register_url_convertor("bundle", _BundleName())
    _add_routes(app, Routes(service))
    if service.hosts is not None:
        app.add_middleware(service.hosts.checking)
    app.add_middleware(service.metrics.counting)
    return app


class _BundleName(StringConvertor):
    """A name in an address, up to the colon before a verb."""

    regex = "[^/:]+"


def _add_routes(app: FastAPI, routes: Routes) -> None:
    limits = routes.service.limits
    guarded = [Depends(routes.check_token)] if routes.service.token is not None else []
    refused: Answers = {401: _says("The bearer token is missing or wrong.")} if guarded else {}
    unknown: Answers = {**refused, 404: _says("No bundle has that name.")}
    bodies: Answers = {
        400: _says("The body is not JSON, or is not UTF-8."),
        413: _says(f"The body has more than {limits.body_bytes} bytes."),
        415: _says(f"The body is not said to be {_JSON}."),
        422: {"model": schemas.Invalid, "description": "Something in the request is not as it must be."},
        503: _says("The server stops."),
    }
    admin: Answers = {403: _says("The server was started without a token, so nobody may change its bundles.")}
    wait = {"description": "Seconds to wait.", "schema": {"type": "integer"}}
    page = partial(app.add_api_route, response_class=fastapi.responses.HTMLResponse, include_in_schema=False)
    server = partial(app.add_api_route, tags=["server"])
    models = partial(app.add_api_route, dependencies=guarded, tags=["models"])
    page("/", routes.page)
    page("/docs", routes.docs)
    server("/healthz", routes.health, responses=_status("works"))
    server("/readyz", routes.ready, responses=_status("takes texts"))
    text = {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus' text format."}
    server("/metrics", routes.metrics, dependencies=guarded, responses={200: text, **refused})
    models("/v1/models", routes.list_models, response_model=schemas.ModelList, responses=refused)
    models(
        f"{_ONE_MODEL}:predict",
        routes.predict,
        methods=["POST"],
        response_model=schemas.Predictions,
        responses={
            **unknown,
            **bodies,
            429: {**_says("Too many texts wait."), "headers": {"Retry-After": wait}},
            504: _says(f"It took longer than {limits.timeout_s:g} s."),
        },
        openapi_extra=_takes(routes.texts_model),
    )
    models(
        _ONE_MODEL,
        routes.show_model,
        response_model=schemas.ModelInfo,
        responses={**unknown, 422: bodies[422]},
    )
    models(
        _ONE_MODEL,
        routes.put_model,
        methods=["PUT"],
        response_model=schemas.ModelInfo,
        responses={
            201: {"model": schemas.ModelInfo, "description": "It answers."},
            **refused,
            **admin,
            **bodies,
            409: _says("The folder is not a whole bundle, or its encoder is not the one it was trained on."),
            503: _says("The server stops, or an earlier load that took too long still runs."),
            504: _says(f"The bundle was not loaded within {limits.load_s:g} s."),
        },
        openapi_extra=_takes(schemas.NewModel),
    )
    models(
        _ONE_MODEL,
        routes.delete_model,
        methods=["DELETE"],
        status_code=204,
        responses={**unknown, **admin, 422: bodies[422], 503: bodies[503]},
    )


class Routes:
    """The handlers; their docstrings are the summaries in OpenAPI."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.texts_model = schemas.predict_request(service.limits)

    async def check_token(
        self, given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]
    ) -> None:
        """Let in who shows the token."""
        if given is None or not self.service.is_token(given.credentials):
            raise HTTPException(401, "The bearer token is missing or wrong.", {"WWW-Authenticate": "Bearer"})

    async def page(self) -> Response:
        """Try texts by hand."""
        return pages.response("page")

    async def docs(self) -> Response:
        """The API, for a person."""
        return pages.response("docs")

    async def health(self) -> Response:
        """Whether the process works; else it should be started again."""
        alive = self.service.batcher.alive
        return _answer({"status": "ok" if alive else "the thread of the passes has ended"}, 200 if alive else 503)

    async def ready(self) -> Response:
        """Whether it takes texts; while it stops it does not."""
        if self.service.stopping:
            return _answer({"status": "stopping"}, 503)
        return await self.health()

    async def metrics(self) -> Response:
        """Counters for Prometheus."""
        metrics = self.service.metrics
        return Response(metrics.text(), media_type=metrics.content_type)

    async def list_models(self) -> Response:
        """The bundles that answer."""
        return _answer({"models": [model.describe().model_dump() for model in self.service.models.all()]})

    async def show_model(self, name: Name) -> Response:
        """One bundle that answers."""
        return _answer(self.service.models[name].describe().model_dump())

    async def predict(self, name: Name, request: Request) -> Response:
        """Label texts: one answer a text, in their order."""
        self._refuse_if_stopping()
        model = self.service.models[name]
        wanted = await self._body(request, self.texts_model)
        try:
            texts = wanted.of_kind(pairs=model.reads_pairs)
        except ValueError as error:
            fault = {"type": "value_error", "loc": ("body", "text_pairs"), "msg": str(error)}
            raise RequestValidationError([fault]) from None
        answers = await _unless_gone(request, self.service.batcher.submit(model, texts))
        if answers is None:
            return Response(status_code=_CLIENT_IS_GONE)
        self.service.metrics.saw_texts(name, len(answers))
        return _answer({"model": name, "predictions": [as_fields(answer) for answer in answers]})

    async def put_model(self, name: Name, request: Request) -> Response:
        """Add a bundle, or put it in the place of another, which finishes what it has."""
        self._refuse_without_token()
        self._refuse_if_stopping()
        wanted = await self._body(request, schemas.NewModel)
        try:
            served, replaced = await self.service.put(name, Path(wanted.path), wanted.base)
        except (Stopping, StillLoading, LoadTooSlow):
            raise
        except FeathertuneError as error:
            raise HTTPException(409, schemas.printable(str(error))) from error
        except Exception as error:  # whatever a folder of files can bring libraries to raise
            _log.debug("a bundle cannot be loaded", exc_info=True)
            why = f"{type(error).__name__}: {first_line(error)}"
            raise HTTPException(409, schemas.printable(f"The bundle cannot be loaded: {why}.")) from error
        return _answer(served.describe().model_dump(), 200 if replaced else 201)

    async def delete_model(self, name: Name) -> Response:
        """Let a bundle answer no more; it finishes what it has."""
        self._refuse_without_token()
        self._refuse_if_stopping()
        await self.service.remove(name)
        return Response(status_code=204)

    def _refuse_if_stopping(self) -> None:
        if self.service.stopping:
            raise Stopping

    def _refuse_without_token(self) -> None:
        if self.service.token is None:
            raise HTTPException(403, "Bundles can be changed only if the server has a token (--token-file).")

    async def _body(self, request: Request, model: type[T]) -> T:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
            raise HTTPException(415, f"The body must be JSON, and the header Content-Type say {_JSON}.")
        self.service.n_bodies += 1
        limit = self.service.limits.body_bytes
        if (content := await _read(request, limit)) is None:
            message = f"The body has more than {limit} bytes. Send fewer texts at once."
            raise HTTPException(413, message)
        if len(content) > _LONG_BODY and _n_fields(content) > _MOST_FIELDS:  # pydantic takes long to name them all
            fault = {"type": "too_long", "loc": ("body",), "msg": f"Object should have at most {_MOST_FIELDS} fields"}
            raise RequestValidationError([fault])
        try:
            return model.model_validate_json(content)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            if found[0]["type"] == "json_invalid":
                raise HTTPException(400, f"The body is not JSON: {found[0]['msg'].partition(': ')[2]}.") from None
            raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in found]) from None


def _n_fields(content: bytes) -> int:
    try:
        found = from_json(content)
    except ValueError:  # is said later
        return 0
    return len(found) if isinstance(found, dict) else 0


async def _read(request: Request, limit: int) -> bytes | None:
    """Return the body; None if it is too large."""
    said = request.headers.get("content-length", "")
    if said.isdigit() and int(said) > limit:
        return None
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > limit:
            return None
    return bytes(content)


async def _unless_gone(request: Request, answer: Awaitable[Any]) -> Any | None:  # noqa: ANN401 - whatever is answered
    """Wait for an answer as long as the client does; None once it is gone."""
    working = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, leaving):
            task.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _refusing(refusal: Callable[[Any], HTTPException]) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def refuse(request: Request, error: Exception) -> Response:
        return await http_exception_handler(request, refusal(error))

    return refuse


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError), "it is registered for that alone"
    return _answer(schemas.faults(list(error.errors())), 422)


async def _failed(_request: Request, _error: Exception) -> Response:
    """Answer in words; the exception goes on to the log."""
    return _answer({"detail": _FAILED}, 500)


async def _left(_request: Request, _error: Exception) -> Response:
    return Response(status_code=_CLIENT_IS_GONE)


async def _other_methods(request: Request, _error: Exception) -> Response:
    """Name all methods of an address; the framework knows those of one of its routes only."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    here = [route.methods or set() for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    allowed = ", ".join(sorted(set().union(*here)))
    response = _answer({"detail": f"Here is no {request.method}, but {allowed}."}, 405)
    response.headers["Allow"] = allowed
    return response


def _answer(content: Any, status: int = 200) -> Response:  # noqa: ANN401 - anything JSON
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return Response(text.encode(), status, {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}, _JSON)


def _says(description: str) -> dict[str, Any]:
    return {"model": schemas.Problem, "description": description}


def _status(what: str) -> Answers:
    return {
        200: {"model": schemas.Status, "description": f"It {what}."},
        503: {"model": schemas.Status, "description": "It does not, and why."},
    }


def _takes(model: type[BaseModel]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {_JSON: {"schema": model.model_json_schema()}}}}
