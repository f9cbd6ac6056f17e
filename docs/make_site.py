"""Build the site from ``docs/`` into ``site/html``, which opens from disk. Run by ``make site``.

The pages are written for a code host, where links can point to any file of the repository. This module first prepares
them for Zensical (``site/source``). Files outside ``docs/`` that a page links to are copied, Markdown files as pages.
Figures are inlined, so they follow the switch between light and dark, and comments are removed. A broken link stops the
build. Zensical then checks links and anchors between pages (``--strict``).

Why Zensical: MkDocs 1 is no longer maintained, and Material for MkDocs gets critical fixes only, until May 2027. Its
authors continue with Zensical. Zensical runs no hooks, so their work is done here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from make_figures import chart_style

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
THEME = DOCS / "theme"
OUT = ROOT / "site"
# Missing pages are skipped; pages without a place come last, under "More".
NAV: Mapping[str, Sequence[str]] = {
    "Tutorial": ("index", "quickstart"),
    "How-to guides": (
        *("inspect", "files", "tasks", "numbers", "imbalance", "few-labels", "long", "languages"),
        *("bases", "comparing-bases", "fusion", "search", "cost", "tracking"),
        *("python", "notebooks", "from-peft", "export", "serving", "serving-in-public", "scale", "large-studies"),
        *("adding-a-method", "adding-a-data-source"),
    ),
    "Explanation": (
        "concepts",
        "statistics",
        "light-methods",
        "engine",
        "trust",
        "article",
        "architecture",
        "engine-parts",
        "engine-training",
    ),
    "Reference": ("reference", "api", "methods", "methods-table", "base-models", "bundles", "speed"),
}
_MORE = "More"
# Zensical loads this script from a network so that search works from disk; `theme/worker.js` replaces it.
_SHIM = '<script src="https://unpkg.com/iframe-worker/shim" type="text/javascript"></script>'
_FOREIGN = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=["']?https?:""")
# Folder of the site for files from outside docs/.
_ELSEWHERE = "repository"
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_OUTSIDE = re.compile(r"[a-z][a-z0-9+.-]*:|#|//", re.IGNORECASE)
# A comment outside fences; a fence is the first group.
_COMMENT = re.compile(r"(^```.*?^``` *$)|<!--.*?-->\n?", re.DOTALL | re.MULTILINE)
_FENCE = re.compile(r"^ *(```|~~~)")
_ITEM = re.compile(r"^(?:[*+-]|\d+\.) ")
_SETTINGS = """\
[project]
site_name = "feathertune"
site_description = "Lightweight fine-tuning for text classification, with an honest account of what it buys you."
docs_dir = "source"
site_dir = "html"
use_directory_urls = false
extra_css = ["site.css"]
nav = {nav}

[project.theme]
font = false
language = "en"
features = [
  "content.code.copy", "navigation.footer", "navigation.sections", "navigation.top", "search.highlight", "toc.follow",
]

[[project.theme.palette]]
media = "(prefers-color-scheme: light)"
scheme = "default"
toggle.icon = "lucide/sun"
toggle.name = "Dark"

[[project.theme.palette]]
media = "(prefers-color-scheme: dark)"
scheme = "slate"
toggle.icon = "lucide/moon"
toggle.name = "Light"

[project.plugins.offline]

[project.plugins.mkdocstrings.handlers.python]
paths = [{source}]
inventories = []

[project.plugins.mkdocstrings.handlers.python.options]
docstring_style = "google"
heading_level = 3
members_order = "source"
separate_signature = true
show_root_heading = true
show_source = false
show_signature_annotations = true
show_symbol_type_heading = false
"""


class LinkError(Exception):
    """A broken link, or a page that loads something from a network."""


@dataclass
class Staging:
    """Pages and files of the site, during staging.

    Attributes:
        folder: Folder of the pages.
        waiting: Linked files of the repository that are not staged yet.
        done: Staged files.
    """

    folder: Path
    waiting: list[Path]
    done: set[Path]

    def place(self, file: Path) -> Path:
        """Return the path of a repository file on the site."""
        inside = file.is_relative_to(DOCS)
        return self.folder / (file.relative_to(DOCS) if inside else Path(_ELSEWHERE) / file.relative_to(ROOT))

    def want(self, file: Path) -> None:
        """Stage a linked file later."""
        if file not in self.done and file not in self.waiting:
            self.waiting.append(file)


def stage(out: Path = OUT) -> Path:
    """Write all pages and the files that they link to.

    Args:
        out: Output folder; its content is deleted first.

    Returns:
        The configuration file for Zensical.

    Raises:
        LinkError: If a link is broken.
    """
    shutil.rmtree(out, ignore_errors=True)
    pages = sorted(DOCS.glob("*.md"))
    staging = Staging(out / "source", list(pages), set())
    while staging.waiting:
        file = staging.waiting.pop(0)
        staging.done.add(file)
        place = staging.place(file)
        place.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".md":
            place.write_text(page(file, staging), encoding="utf-8")
        else:
            shutil.copyfile(file, place)
    day, night = '[data-md-color-scheme="default"] {{ {} }}', '[data-md-color-scheme="slate"] {{ {} }}'
    css = chart_style(light=day, dark=night) + "\n" + (THEME / "site.css").read_text(encoding="utf-8")
    (staging.folder / "site.css").write_text(css, encoding="utf-8")
    shutil.copyfile(THEME / "worker.js", staging.folder / "worker.js")
    settings = out / "zensical.toml"
    written = _SETTINGS.format(nav=_as_toml(navigation(pages)), source=json.dumps(str(ROOT / "src")))
    settings.write_text(written, encoding="utf-8")
    return settings


def navigation(pages: Sequence[Path]) -> dict[str, list[str]]:
    """Return the files of each section, existing pages only."""
    names = {path.stem for path in pages}
    sections = {title: [f"{name}.md" for name in wanted if name in names] for title, wanted in NAV.items()}
    known = {name for wanted in NAV.values() for name in wanted}
    sections[_MORE] = [f"{name}.md" for name in sorted(names - known)]
    return {title: files for title, files in sections.items() if files}


def page(file: Path, staging: Staging) -> str:
    """Return a page in the form that Zensical reads."""
    lines = _COMMENT.sub(lambda found: found[1] or "", file.read_text(encoding="utf-8")).splitlines()
    written: list[str] = []
    for line, in_fence in _with_fences(lines):
        if in_fence:
            written.append(line)
            continue
        if written and _starts_block(line, written[-1]):
            written.append("")
        written.append(_LINK.sub(lambda link: _link(link, file, staging), line))
    return "\n".join(written) + "\n"


def _with_fences(lines: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Yield each line, with True if it is part of a fence."""
    fence = ""
    for line in lines:
        mark = found[1] if (found := _FENCE.match(line)) else ""
        yield line, bool(fence or mark)
        if mark and not fence:
            fence = mark
        elif mark == fence:
            fence = ""


def _starts_block(line: str, before: str) -> bool:
    """Return True for a list or table right below a paragraph, where Python-Markdown needs an empty line."""
    text = bool(before.strip()) and not before.startswith((" ", "#", "|")) and not _ITEM.match(before)
    return text and bool(_ITEM.match(line) or line.startswith("|"))


def _link(link: re.Match[str], file: Path, staging: Staging) -> str:
    mark, text, target = link.groups()
    if _OUTSIDE.match(target):
        return link[0]
    path, hash_, anchor = target.partition("#")
    aim = Path(os.path.normpath(file.parent / path))
    if not aim.exists() or not aim.is_relative_to(ROOT):
        raise LinkError(f"{file.relative_to(ROOT)} links to {target}, which does not exist.")
    if aim.is_dir():  # a code host lists a folder, the site has no page for it
        return text
    if mark and aim.suffix == ".svg":
        return _drawing(aim)
    staging.want(aim)
    way = Path(os.path.relpath(staging.place(aim), staging.place(file).parent)).as_posix()
    return f"{mark}[{text}]({way}{hash_}{anchor})"


def _drawing(file: Path) -> str:
    """Return a figure as inline SVG, with the colours of the site's style sheet."""
    drawing = re.sub(r"<style>.*?</style>", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    return f'<div class="figure">{" ".join(drawing.split())}</div>'


def _as_toml(sections: Mapping[str, Sequence[str]]) -> str:
    rows = (f"  {{ {json.dumps(title)} = {json.dumps(list(files))} }},\n" for title, files in sections.items())
    return f"[\n{''.join(rows)}]"


def build(settings: Path) -> int:
    """Run Zensical, and check that its pages load nothing from a network.

    Returns:
        Zensical's exit status.

    Raises:
        LinkError: If a page loads something from a network.
    """
    zensical = Path(sys.executable).with_name("zensical")
    command = [str(zensical) if zensical.exists() else "zensical", "build", "--strict", "--clean", "-f", settings.name]
    status = subprocess.run(command, cwd=settings.parent, check=False).returncode
    html = settings.parent / "html"
    for file in html.rglob("*.html") if status == 0 else ():
        way = Path(os.path.relpath(html / "worker.js", file.parent)).as_posix()
        text = file.read_text(encoding="utf-8").replace(_SHIM, f'<script src="{way}"></script>')
        if found := _FOREIGN.search(text):
            raise LinkError(f"{file.relative_to(html)} loads something from a network: {found[0]}")
        file.write_text(text, encoding="utf-8")
    return status


if __name__ == "__main__":
    try:
        status = build(stage())
    except LinkError as error:
        sys.exit(str(error))
    if status == 0:
        sys.stdout.write(f"Open {OUT / 'html' / 'index.html'}\n")
    sys.exit(status)
