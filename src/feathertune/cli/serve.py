"""``feathertune serve``."""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from feathertune.cli import options as opt
from feathertune.cli.predict import BaseOption
from feathertune.errors import ConfigError, MissingExtraError

TOKEN_VARIABLE = "FEATHERTUNE_TOKEN"
_PACKAGES = ("fastapi", "starlette", "uvicorn", "httptools", "prometheus_client")  # of the extra `serve`
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def serve(
    bundles: Annotated[list[str], typer.Argument(metavar="BUNDLE...", help="Bundles, each FOLDER or NAME=FOLDER.")],
    host: Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 means all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on; 0 picks a free one.")] = 8000,
    base: BaseOption = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help=f"File with the clients' bearer token; or set {TOKEN_VARIABLE}.")
    ] = None,
    token_budget: Annotated[int, typer.Option("--token-budget", help="Maximum padded tokens per batch.")] = 2048,
    latency_budget_ms: Annotated[
        float, typer.Option("--latency-budget-ms", help="Maximum wait for a batch to fill, in ms.")
    ] = 10.0,
    queue_texts: Annotated[int, typer.Option("--queue-texts", help="Maximum queued texts; more get 429.")] = 1024,
    request_texts: Annotated[int, typer.Option("--request-texts", help="Maximum texts per request.")] = 256,
    text_characters: Annotated[int, typer.Option("--text-characters", help="Maximum characters per text.")] = 20_000,
    body_bytes: Annotated[int, typer.Option("--body-bytes", help="Maximum bytes per request.")] = 1 << 20,
    timeout_s: Annotated[float, typer.Option("--timeout-s", help="Timeout of a request in seconds (504).")] = 30.0,
    drain_s: Annotated[float, typer.Option("--drain-s", help="Seconds to answer 503 before shutdown.")] = 1.0,
    load_s: Annotated[float, typer.Option("--load-s", help="Timeout of loading a bundle by PUT, in seconds.")] = 120.0,
    connections: Annotated[int, typer.Option("--connections", help="Maximum simultaneous connections.")] = 512,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option("--allowed-host", metavar="NAME", help="Accepted host, e.g. api.example.org, or *. Repeatable."),
    ] = None,
    assignments: opt.EngineAssignments = None,
    debug: opt.Debug = False,
) -> None:
    """Serve bundles over HTTP; bundles with the same base model share it in memory.

    A page to try texts is at /, the API documentation at /docs. SIGTERM or Ctrl-C stops the server after it has
    answered all accepted requests.
    """
    engine = opt.settings({"assignments": assignments}).engine
    named = _named(bundles)
    token = _token(token_file)
    try:
        from feathertune.serve.server import address, listen
        from feathertune.serve.server import serve as answer
    except ImportError as error:
        if (error.name or "").partition(".")[0] in _PACKAGES:
            raise MissingExtraError("serve", "`feathertune serve`") from error
        raise
    from feathertune.runtime import choose_runtime
    from feathertune.serve.hosts import AllowedHosts
    from feathertune.serve.limits import Limits
    from feathertune.serve.models import Models
    from feathertune.serve.service import Service

    limits = Limits(
        token_budget=token_budget,
        latency_budget_s=latency_budget_ms / 1000,
        queue_texts=queue_texts,
        request_texts=request_texts,
        text_characters=text_characters,
        body_bytes=body_bytes,
        timeout_s=timeout_s,
        drain_s=drain_s,
        load_s=load_s,
        connections=connections,
    )
    if debug:
        logging.getLogger("feathertune.serve").setLevel(logging.DEBUG)
    opened = listen(host, port)
    with opened:
        hosts = AllowedHosts(opened, [*(allowed_host or []), host.partition("%")[0]])
        models = Models(engine, choose_runtime(engine))
        for name, path in named.items():
            served = models.add(name, models.read(path, base))
            info = served.predictor.bundle.info
            passes = f"separate batches: {served.note}" if served.note else "batches shared with bundles of its base"
            gives = f"{len(info.labels)} labels" if info.numbers is None else f"a number: {info.labels[0]}"
            sys.stderr.write(f"{name}: {info.method} on {info.base.id}, {gives}; {passes}\n")
        if token is None and not ipaddress.ip_address(opened.getsockname()[0]).is_loopback:
            sys.stderr.write(
                f"Warning: anyone who can reach {host} can use this server. Set a token with {TOKEN_VARIABLE} or "
                "--token-file.\n"
            )
        sys.stderr.write(f"Listening on {address(opened)} (try texts there; API docs at /docs). Ctrl-C stops it.\n")
        sys.stderr.flush()
        service = Service(models, limits, token, hosts)
        answer(service, opened)
    if service.is_loading:  # its thread may be inside torch, which aborts a process that exits meanwhile
        sys.stderr.flush()
        os._exit(0)


def _named(bundles: list[str]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for word in bundles:
        name, given, folder = word.partition("=")
        if not given or Path(word).exists():
            folder = word
            name = Path(os.path.abspath(word)).name  # the link's own name, if it is one
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"'{name}' cannot name a bundle in a URL. Expected up to 64 letters, digits, '.', '_' and '-'. Pass "
                f"NAME={folder}."
            )
        if name in named:
            raise ConfigError(f"Two bundles are named '{name}': {named[name]} and {folder}. Rename one: NAME={folder}.")
        named[name] = Path(folder)
    return named


def _token(file: Path | None) -> str | None:
    """Return the bearer token, which is never an option: every user of the machine can read a command's options."""
    if file is None:
        token, where = os.environ.get(TOKEN_VARIABLE), f"the variable {TOKEN_VARIABLE}"
        if token is None:
            return None
    else:
        where = f"the file {file}"
        try:
            token = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"The token cannot be read from {where}: {error}.") from error
    token = token.strip()
    if not re.fullmatch(r"[\x21-\x7e]{8,}", token):
        raise ConfigError(
            f"The token in {where} has {len(token)} characters. Expected at least 8 characters, all of them ASCII, and "
            "no spaces."
        )
    return token
