"""HTML pages of the server: one to try texts, one to read about the API."""

from __future__ import annotations

import functools
from importlib.resources import files

import jinja2
from fastapi import Response
from markupsafe import Markup

import feathertune
from feathertune.report.page import csp_hash

PAGES = {"page": "Try texts", "docs": "API"}


def response(name: str) -> Response:
    """Return one of `PAGES`; pages load nothing from other hosts."""
    content, policy = _page(name)
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    return Response(content, headers=headers, media_type="text/html")


@functools.cache
def _page(name: str) -> tuple[bytes, str]:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource), autoescape=True, undefined=jinja2.StrictUndefined
    )
    style, script = _resource("style.css"), _resource("common.js") + _resource(f"{name}.js")
    html = environment.get_template(f"{name}.html").render(
        title=PAGES[name], version=feathertune.__version__, style=Markup(style), script=Markup(script)
    )
    policy = (
        f"default-src 'none'; style-src '{csp_hash(style)}'; script-src '{csp_hash(script)}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return html.encode("utf-8"), policy


def _resource(name: str) -> str:
    return files("feathertune.serve").joinpath(name).read_text(encoding="utf-8")
