"""Write a study's ``report.html`` from its records: one file under 500 kB that needs no network."""

from __future__ import annotations

from pathlib import Path

from feathertune.records import load_study
from feathertune.report.content import build_view
from feathertune.report.format import units
from feathertune.report.page import render_page
from feathertune.report.rows import Limits
from feathertune.storage import write_atomic

REPORT_FILE = "report.html"
MAX_BYTES = 500_000
# From generous to strict; the first that fits is used, and the last always fits.
_LIMITS = (
    Limits(methods=60, runs=250, cards=12, cells=1200, epochs=100, labels=60, examples=10, text=500, words=80),
    Limits(methods=40, runs=60, cards=6, cells=500, epochs=30, labels=30, examples=10, text=250, words=60),
    Limits(methods=15, runs=15, cards=2, cells=50, epochs=10, labels=8, examples=4, text=100, words=24),
)


def render_report(folder: Path) -> Path:
    """Write the report of a study, complete or not, and return its path; only ``study.json`` is needed."""
    study = load_study(folder)
    title = f"{units.clip(study.base_ids(), 60)} on {units.clip(study.data.source, 60)}"
    drawn_by = units.clip(study.versions.get("feathertune", ""), 20)
    for limits in _LIMITS:
        view = build_view(study, folder, limits)
        page = render_page("template.html", title=title, drawn_by=drawn_by, view=view, study=view["study"])
        if len(page) <= MAX_BYTES:
            break
    path = folder / REPORT_FILE
    write_atomic(path, page)
    return path
