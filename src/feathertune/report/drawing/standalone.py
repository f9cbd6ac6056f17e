"""Turn the report's charts into SVG files that carry their own style."""

from __future__ import annotations

import re
from importlib import resources

_VARIABLES = re.compile(r":root \{\n(.*?)\n *\}", re.DOTALL)
_CHART_RULES = re.compile(r"^(?:svg |\.k0 |\.k4 ).*$", re.MULTILINE)


def chart_style(*, light: str, dark: str = "") -> str:
    """Return the report's rules for charts.

    Args:
        light: A rule with ``{}`` for the light colours, such as ``:root {{ {} }}``.
        dark: The same for the dark colours; empty leaves them out.
    """
    css = resources.files("feathertune.report").joinpath("style.css").read_text(encoding="utf-8")
    day, night = (" ".join(found.split()) for found in _VARIABLES.findall(css)[:2])
    colours = [light.format(day), *([dark.format(night)] if dark else [])]
    return "\n".join([*colours, *_CHART_RULES.findall(css)])


def size_of(chart: str) -> tuple[float, float]:
    """Return the width and height of a chart, in its own units."""
    _, _, width, height = map(float, chart.split('viewBox="', 1)[1].split('"', 1)[0].split())
    return width, height


def standalone(chart: str, style: str, scale: float = 1.0) -> str:
    """Return a chart as an SVG file of a fixed size: without one, a browser makes a picture as wide as the page."""
    width, height = size_of(chart)
    size = f'width="{scale * width:.0f}" height="{scale * height:.0f}"'
    return (
        str(chart)  # markup would escape the style
        .replace("<svg ", f'<svg xmlns="http://www.w3.org/2000/svg" {size} ', 1)
        .replace(">", f">\n<style>\n{style}\n</style>\n", 1)
        + "\n"
    )
