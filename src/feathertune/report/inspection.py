"""The HTML page of an inspection; ``findings.csv`` has the rows that the page leaves out."""

from __future__ import annotations

from markupsafe import Markup

from feathertune import __version__
from feathertune.records.inspection import Inspection
from feathertune.report.drawing import svg
from feathertune.report.format import units
from feathertune.report.page import render_page

INSPECTION_FILE, PAGE_FILE, FINDINGS_FILE = "inspection.json", "inspection.html", "findings.csv"
_CLASSES, _ROWS = 40, 50
_BAR_PX = 160.0


def draw_inspection(inspection: Inspection) -> bytes:
    """Return the page, in UTF-8; long lists are shortened."""
    n = sum(inspection.classes.values())
    most = max(inspection.classes.values(), default=1)
    view = {
        "n": n,
        "n_found": sum(finding.n for finding in inspection.findings),
        "classes": [
            (name, rows, rows / n, _bar(rows / most)) for name, rows in list(inspection.classes.items())[:_CLASSES]
        ],
        "findings": [finding.model_copy(update={"rows": finding.rows[:_ROWS]}) for finding in inspection.findings],
        "lead": _lead(inspection, n),
    }
    title = units.clip(inspection.source, 60)
    return render_page("inspection.html", title=title, drawn_by=__version__, view=view, inspection=inspection)


def _lead(inspection: Inspection, n: int) -> str:
    said = f"{n:,} rows with {len(inspection.classes):,} labels."
    if inspection.refused is not None:
        return f"{said} feathertune cannot train on this data: {inspection.refused}"
    if not inspection.suspicious:
        return f"{said} No problems found."
    many = len(inspection.suspicious)
    return f"{said} {many} possible problem{'s' if many > 1 else ''} to check before training."


def _bar(share: float) -> Markup:
    """Return a bar filled to this share; the number next to it says the same."""
    parts = (svg.element("rect", x=0, y=0, width=max(1.0, _BAR_PX * share), height=10, rx=2, class_="part fixed"),)
    return svg.element("svg", *parts, class_="share", viewBox=f"0 0 {_BAR_PX:.0f} 10", aria_hidden="true")
