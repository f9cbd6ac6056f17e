"""Draws a study's ``report.html`` from its records: one file, no network, under 500 kB. Loads without torch.

Not for numbers that a program reads: those are in ``study.json``.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from pathlib import Path

import jinja2
from markupsafe import Markup

from feathertune.records import StudyRecord, load_study
from feathertune.report import svg, units
from feathertune.report.content import View, build_view
from feathertune.report.limits import Limits
from feathertune.storage import write_atomic

REPORT_FILE = "report.html"
MAX_BYTES = 500_000
# From generous to frugal; the first that fits is used, and the last one always fits.
_LIMITS = (
    Limits(methods=60, runs=250, cards=12, cells=1200, epochs=100, labels=60, examples=10, text=500, words=80),
    Limits(methods=40, runs=60, cards=6, cells=500, epochs=30, labels=30, examples=10, text=250, words=60),
    Limits(methods=15, runs=15, cards=2, cells=50, epochs=10, labels=8, examples=4, text=100, words=24),
)
# HTML has no way to write these, not even escaped.
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def render_report(folder: Path) -> Path:
    """Draw the report of a study, whole or cut short, and write it beside its record.

    Args:
        folder: The study folder. Files other than ``study.json`` may be missing.

    Returns:
        The path of ``report.html``.

    Raises:
        DataError: If there is no study in the folder.
        OSError: If the report cannot be written; an older one is untouched.
    """
    study = load_study(folder)
    for limits in _LIMITS:
        page = _render(study, folder, limits)
        if len(page) <= MAX_BYTES:
            break
    path = folder / REPORT_FILE
    write_atomic(path, page)
    return path


def _render(study: StudyRecord, folder: Path, limits: Limits) -> bytes:
    view = build_view(study, folder, limits)
    style, script = _resource("style.css"), _resource("script.js")
    page = _template().render(
        view=view,
        study=view.study,
        style=Markup(style),
        script=Markup(script),
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
        page_title=_page_title(view),
    )
    return _UNWRITABLE.sub("\ufffd", page).encode("utf-8")


def _page_title(view: View) -> str:
    return f"{units.clip(view.study.base.id, 60)} on {units.clip(view.study.data.source, 60)}"


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        percent=units.percent,
        interval=units.interval,
        percent_of_weights=units.percent_of_weights,
        points=units.points,
        seconds=units.seconds,
        size=units.size,
        count=units.count,
        whole=units.whole,
        times=units.times,
        decimal=units.decimal,
        probability=units.probability,
        clip=units.clip,
    )
    environment.globals["key"] = svg.key
    return environment.from_string(_resource("template.html"))


def _resource(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def _csp_hash(content: str) -> str:
    """What a content security policy needs to allow this one inline style or script, and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode("utf-8")).digest()).decode("ascii")
