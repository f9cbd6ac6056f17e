"""Render a template as one self-contained HTML page.

Everything but `Markup` is escaped; a content security policy allows only the page's own style and script.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

import jinja2
from markupsafe import Markup

from feathertune.records.row_names import base_of_row, method_of_row
from feathertune.report.drawing import svg
from feathertune.report.format import units
from feathertune.tasks import SCORES
from feathertune.tasks.formats import capitalised

# HTML has no way to write these, not even escaped.
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_FILTERS = (
    units.percent,
    units.percent_of_weights,
    units.seconds,
    units.size,
    units.count,
    units.whole,
    units.times,
    units.decimal,
    units.in_unit,
    units.probability,
    units.clip,
    capitalised,
    method_of_row,
    base_of_row,
)


def render_page(template: str, *, title: str, drawn_by: str, **values: object) -> bytes:
    """Fill a template of this package that extends ``layout.html``; return the page in UTF-8."""
    style, script = _resource("style.css"), _resource("script.js")
    page = render_part(
        template,
        page_title=title,
        drawn_by=drawn_by,
        style=Markup(style),
        script=Markup(script),
        style_hash=csp_hash(style),
        script_hash=csp_hash(script),
        **values,
    )
    return page.encode("utf-8")


def render_part(template: str, **values: object) -> str:
    """Fill any template of this package."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({function.__name__: function for function in _FILTERS})
    environment.globals.update(key=svg.key, scores=SCORES)
    return _UNWRITABLE.sub("\ufffd", environment.get_template(template).render(**values))


def _resource(name: str) -> str:
    return files("feathertune.report").joinpath(name).read_text(encoding="utf-8")


def csp_hash(content: str) -> str:
    """Return the hash that allows this one inline style or script in a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode("utf-8")).digest()).decode("ascii")
