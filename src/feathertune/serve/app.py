"""HTTP routes: responses and status codes of each path."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import fastapi
from fastapi import Depends, FastAPI, HTTPException, Request, Response
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
from feathertune.serve.batcher import Refused, Stopping
from feathertune.serve.service import Service

_JSON = "application/json"
_MOST_FIELDS = 16  # of a body: pydantic is slow at listing thousands
_CLIENT_IS_GONE = 499  # nginx's status code, for the metrics
_FAILED = "Internal error. See the server's log."
_ONE_MODEL = "/v1/models/{name:bundle}"

Name = Annotated[str, fastapi.Path(pattern=schemas.NAME_PATTERN, description="Name of the bundle.")]
_CONTROLS = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")  # valid in JSON, but terminals interpret them
_log = logging.getLogger("feathertune.serve")
T = TypeVar("T", bound=BaseModel)
Answers = dict[int | str, dict[str, Any]]  # by status, for OpenAPI


def create_app(service: Service) -> FastAPI:
    """Return the app of a service; its lifespan starts and stops the service's threads."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.batcher.start()
        yield
        await service.close()

    async def refused(_request: Request, error: Exception) -> Response:
        if isinstance(error, TimeoutError):
            error = Refused(504, f"The request took longer than {service.limits.timeout_s:g} s.")
        elif not isinstance(error, Refused):
            error = Refused(404, str(error))
        response = _answer({"detail": str(error)}, error.status)
        if error.retry_after_s is not None:
            response.headers["Retry-After"] = str(error.retry_after_s)
        return response

    app = FastAPI(
        title="feathertune",
        version=feathertune.__version__,
        summary="Classify texts with bundles that share one encoder.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load scripts from a CDN; `pages` has one that does not
        redoc_url=None,
        redirect_slashes=False,  # behind a TLS proxy, redirects would drop the TLS
    )
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ClientDisconnect, _left)
    app.add_exception_handler(405, _other_methods)
    app.add_exception_handler(Exception, _failed)
    for kind in (Refused, UnknownNameError, TimeoutError):
        app.add_exception_handler(kind, refused)
    register_url_convertor("bundle", _BundleName())
    _add_routes(app, Routes(service))
    if service.hosts is not None:
        app.add_middleware(service.hosts.checking)
    app.add_middleware(service.metrics.counting)
    return app


class _BundleName(StringConvertor):
    """Bundle name in a path, up to the colon before a verb."""

    regex = "[^/:]+"


def _add_routes(app: FastAPI, routes: Routes) -> None:
    limits = routes.service.limits
    guarded = [Depends(routes.check_token)] if routes.service.token is not None else []
    reasons = {
        400: "The body is not valid JSON in UTF-8.",
        401: "The bearer token is missing or wrong.",
        403: "Bundles cannot be changed because the server was started without a token.",
        404: "No bundle has this name.",
        409: "The folder is not a complete bundle, or its encoder differs from the one it was trained on.",
        413: f"The body exceeds {limits.body_bytes} bytes.",
        415: f"The Content-Type is not {_JSON}.",
        422: "The request does not match its schema.",
        429: "Too many texts are waiting. Retry after the seconds in the Retry-After header.",
        503: "The server is stopping, or still loading an earlier bundle.",
        504: f"The request took longer than {limits.timeout_s:g} s, or {limits.load_s:g} s for a new bundle.",
    }

    def refusals(*codes: int) -> Answers:
        model = {422: schemas.Invalid}
        every = (*codes, 401) if guarded else codes
        return {code: {"model": model.get(code, schemas.Problem), "description": reasons[code]} for code in every}

    health: Answers = {
        200: {"description": "The server is working."},
        503: {"model": schemas.Status, "description": "The server is not working; `status` has the reason."},
    }
    server = partial(app.add_api_route, tags=["server"])
    models = partial(app.add_api_route, dependencies=guarded, tags=["models"])
    for path, name in (("/", "page"), ("/docs", "docs")):
        app.add_api_route(path, partial(pages.response, name), response_model=None, include_in_schema=False)
    server("/healthz", routes.health, response_model=schemas.Status, responses=health)
    server("/readyz", routes.ready, response_model=schemas.Status, responses=health)
    text = {
        "content": {"text/plain": {"schema": {"type": "string"}}},
        "description": "Metrics as Prometheus text.",
    }
    server("/metrics", routes.metrics, dependencies=guarded, responses={200: text, **refusals()})
    models("/v1/models", routes.list_models, response_model=schemas.ModelList, responses=refusals())
    models(
        f"{_ONE_MODEL}:predict",
        routes.predict,
        methods=["POST"],
        response_model=schemas.Predictions,
        responses=refusals(400, 404, 413, 415, 422, 429, 503, 504),
        openapi_extra=_takes(routes.texts_model),
    )
    models(_ONE_MODEL, routes.show_model, response_model=schemas.ModelInfo, responses=refusals(404, 422))
    added = {"model": schemas.ModelInfo, "description": "The bundle was added."}
    models(
        _ONE_MODEL,
        routes.put_model,
        methods=["PUT"],
        response_model=schemas.ModelInfo,
        responses={201: added, **refusals(400, 403, 409, 413, 415, 422, 503, 504)},
        openapi_extra=_takes(schemas.NewModel),
    )
    responses = refusals(403, 404, 422, 503)
    models(_ONE_MODEL, routes.delete_model, methods=["DELETE"], status_code=204, responses=responses)


class Routes:
    """Request handlers; their docstrings become descriptions in OpenAPI."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.texts_model = schemas.predict_request(service.limits)

    async def check_token(
        self, given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]
    ) -> None:
        """Require the bearer token."""
        if given is None or not self.service.is_token(given.credentials):
            raise HTTPException(401, "The bearer token is missing or wrong.", {"WWW-Authenticate": "Bearer"})

    async def health(self) -> Response:
        """Liveness check. Restart the server if it fails."""
        alive = self.service.batcher.alive
        return _answer({"status": "ok" if alive else "a worker thread has stopped"}, 200 if alive else 503)

    async def ready(self) -> Response:
        """Readiness check. It fails while the server is stopping."""
        if self.service.stopping:
            return _answer({"status": "stopping"}, 503)
        return await self.health()

    async def metrics(self) -> Response:
        """Return metrics for Prometheus."""
        metrics = self.service.metrics
        return Response(metrics.text(), media_type=metrics.content_type)

    async def list_models(self) -> Response:
        """List the loaded bundles."""
        return _answer({"models": [model.describe().model_dump() for model in self.service.models.all()]})

    async def show_model(self, name: Name) -> Response:
        """Describe one bundle."""
        return _answer(self.service.models[name].describe().model_dump())

    async def predict(self, name: Name, request: Request) -> Response:
        """Classify texts. The predictions are in the order of the texts."""
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
        """Add a bundle, or replace the one with this name. Requests to the old bundle still finish."""
        self._check_change()
        wanted = await self._body(request, schemas.NewModel)
        try:
            served, replaced = await self.service.put(name, Path(wanted.path), wanted.base)
        except Refused:
            raise
        except FeathertuneError as error:
            raise HTTPException(409, schemas.printable(str(error))) from error
        except Exception as error:  # libraries may raise anything on damaged files
            _log.debug("a bundle cannot be loaded", exc_info=True)
            why = f"{type(error).__name__}: {first_line(error)}"
            raise HTTPException(409, schemas.printable(f"The bundle cannot be loaded: {why}.")) from error
        return _answer(served.describe().model_dump(), 200 if replaced else 201)

    async def delete_model(self, name: Name) -> Response:
        """Remove a bundle. Its running requests still finish."""
        self._check_change()
        await self.service.remove(name)
        return Response(status_code=204)

    def _refuse_if_stopping(self) -> None:
        if self.service.stopping:
            raise Stopping

    def _check_change(self) -> None:
        if self.service.token is None:
            raise HTTPException(403, "Bundles cannot be changed without a token. Start the server with --token-file.")
        self._refuse_if_stopping()

    async def _body(self, request: Request, model: type[T]) -> T:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
            raise HTTPException(415, f"The body must be JSON, with the header Content-Type: {_JSON}.")
        self.service.n_bodies += 1
        content = await _read(request, self.service.limits.body_bytes)
        try:
            value = from_json(content)
        except ValueError as error:
            raise HTTPException(400, f"The body is not JSON: {error}.") from None
        if isinstance(value, dict) and len(value) > _MOST_FIELDS:
            fault = {"type": "too_long", "loc": ("body",), "msg": f"Object should have at most {_MOST_FIELDS} fields"}
            raise RequestValidationError([fault])
        try:
            return model.model_validate_json(content)  # its messages use JSON's terms, such as "array"
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in found]) from None


async def _read(request: Request, limit: int) -> bytearray:
    """Return the body, or refuse it as soon as it exceeds the limit."""
    too_large = HTTPException(413, f"The body exceeds {limit} bytes. Send fewer texts per request.")
    said, content = request.headers.get("content-length", ""), bytearray()
    if said.isdigit() and int(said) > limit:
        raise too_large
    async for chunk in request.stream():
        content += chunk
        if len(content) > limit:
            raise too_large
    return content


async def _unless_gone(request: Request, answer: Awaitable[Any]) -> Any | None:  # noqa: ANN401 - any result
    """Wait for an answer while the client stays connected; return None once it disconnects."""
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


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError), "registered for this exception only"
    return _answer(schemas.faults(list(error.errors())), 422)


async def _failed(_request: Request, _error: Exception) -> Response:
    """Return a JSON error; the exception itself is logged."""
    return _answer({"detail": _FAILED}, 500)


async def _left(_request: Request, _error: Exception) -> Response:
    return Response(status_code=_CLIENT_IS_GONE)


async def _other_methods(request: Request, _error: Exception) -> Response:
    """List all methods of a path; the framework lists those of one route only."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    here = [route.methods or set() for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    allowed = ", ".join(sorted(set().union(*here)))
    response = _answer({"detail": f"{request.method} is not allowed here. Allowed: {allowed}."}, 405)
    response.headers["Allow"] = allowed
    return response


def _answer(content: Any, status: int = 200) -> Response:  # noqa: ANN401 - anything JSON
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return Response(text.encode(), status, {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}, _JSON)


def _takes(model: type[BaseModel]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {_JSON: {"schema": model.model_json_schema()}}}}
