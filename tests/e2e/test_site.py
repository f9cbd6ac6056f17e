"""`make site`: links of all pages lead somewhere, Zensical builds them strictly, a browser shows them."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import make_site
import pytest

import feathertune

SIZES = ((1440, 900), (360, 740))
PAGES = ("index", "quickstart", "concepts", "methods", "reference", "api", "from-peft", "engine")


@pytest.fixture
def docs(tmp_path, monkeypatch):
    """A small repository, with the site's script looking at it."""
    folder = tmp_path / "docs"
    folder.mkdir()
    monkeypatch.setattr(make_site, "ROOT", tmp_path)
    monkeypatch.setattr(make_site, "DOCS", folder)
    return folder


def staged(docs: Path, name: str) -> str:
    make_site.stage(docs.parent / "site")
    return (docs.parent / "site" / "source" / name).read_text(encoding="utf-8")


def test_links_out_of_docs_lead_to_copies_and_back(docs):
    (docs / "index.md").write_text("# A\n[log](../b/LOG.md#x) [data](../b/a.json) [b](../b) [w](https://x.y) [h](#a)\n")
    (docs.parent / "b").mkdir()
    (docs.parent / "b" / "a.json").write_text("{}")
    (docs.parent / "b" / "LOG.md").write_text("# Log\n## x\n[home](../docs/index.md) [`data`](a.json)\n")
    page = staged(docs, "index.md")
    assert "[log](repository/b/LOG.md#x) [data](repository/b/a.json) b [w](https://x.y) [h](#a)" in page
    assert "[home](../../index.md) [`data`](a.json)" in staged(docs, "repository/b/LOG.md")
    assert staged(docs, "repository/b/a.json") == "{}"


@pytest.mark.parametrize("target", ["nowhere.md", "../nowhere.json", "../../outside"])
def test_a_link_that_leads_nowhere_stops_the_build(docs, target):
    (docs.parent.parent / "outside").mkdir(exist_ok=True)
    (docs / "index.md").write_text(f"# A\n[x]({target})\n")
    with pytest.raises(make_site.LinkError, match=re.escape(f"docs/index.md links to {target}")):
        make_site.stage(docs.parent / "site")


def test_fences_stay_and_comments_go_and_lists_get_a_free_line(docs):
    (docs / "index.md").write_text(
        "# A\n<!-- hidden\n```sh\nb\n```\n-->\nText:\n* one\n* two\n\n"
        "```\n[x](nowhere.md) <!-- kept -->\n* three\n```\n"
    )
    expected = "# A\nText:\n\n* one\n* two\n\n```\n[x](nowhere.md) <!-- kept -->\n* three\n```\n"
    assert staged(docs, "index.md") == expected


def test_every_page_is_in_the_navigation_once():
    pages = sorted(make_site.DOCS.glob("*.md"))
    sections = make_site.navigation(pages)
    assert sorted(name for files in sections.values() for name in files) == sorted(page.name for page in pages)
    assert list(sections) == ["Tutorial", "How-to guides", "Explanation", "Reference"]
    found = make_site.navigation([Path("zoo.md"), Path("index.md")])
    assert found == {"Tutorial": ["index.md"], "More": ["zoo.md"]}


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.targets: list[str] = []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            if name in ("href", "src") and value:
                self.targets.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site."""
    if find_spec("zensical") is None or find_spec("mkdocstrings_handlers") is None:
        pytest.skip("the extra 'docs' is not installed")
    out = tmp_path_factory.mktemp("site")
    shutil.rmtree(out)
    assert make_site.build(make_site.stage(out)) == 0
    return out / "html"


def test_each_link_of_the_built_site_leads_somewhere_on_it(site):
    pages = {}
    for path in sorted(site.rglob("*.html")):
        pages[path] = _Page()
        pages[path].feed(path.read_text(encoding="utf-8"))
    broken, outside = [], set()
    for path, page in pages.items():
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme in ("http", "https"):
                outside.add(parts.netloc)
                continue
            if parts.scheme or path.name == "404.html":  # that page has its links from the root of a server
                continue
            aim = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            aim = aim / "index.html" if aim.is_dir() else aim
            lost = parts.fragment and aim in pages and unquote(parts.fragment) not in pages[aim].ids
            if not aim.exists() or (lost and not parts.fragment.startswith("__")):
                broken.append(f"{path.relative_to(site)}: {target}")
    assert not broken, broken[:20]
    assert len(pages) > 15
    assert "fonts.googleapis.com" not in outside


def test_the_python_reference_has_every_public_name(site):
    page = _Page()
    page.feed((site / "api.html").read_text(encoding="utf-8"))
    missing = {name for name in feathertune.__all__ if name != "__version__"} - {i.rpartition(".")[2] for i in page.ids}
    assert not missing
    assert {"feathertune.config.TrainConfig", "feathertune.records.StudyRecord"} <= page.ids


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        pytest.param(SIZES[0], "light", id="desktop-light"),
        pytest.param(SIZES[0], "dark", id="desktop-dark", marks=pytest.mark.slow),
        pytest.param(SIZES[1], "light", id="phone-light", marks=pytest.mark.slow),
        pytest.param(SIZES[1], "dark", id="phone-dark"),
    ],
)
def test_pages_open_from_disk_without_a_network_and_fit(site, browser, size, scheme):
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    requests, problems = [], []
    page = context.new_page()
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    grounds = set()
    for name in PAGES if scheme == "light" else ("index", "concepts"):  # only colours differ
        page.goto((site / f"{name}.html").as_uri())
        page.wait_for_load_state("networkidle")
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} is {wide} px wider than the window"
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        if name == "concepts":
            charts = page.locator("svg.chart")
            assert charts.count() == 4
            ink = page.evaluate("getComputedStyle(document.querySelector('svg.chart .name')).fill")
            bright = sum(map(int, re.findall(r"\d+", ink)[:3])) > 3 * 128
            assert bright == (scheme == "dark"), f"text of figures is {ink}"
    context.close()
    assert len(grounds) == 1
    assert not problems, problems
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:file:"))] == []


def test_the_search_finds_a_page(site, browser):
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto((site / "index.html").as_uri())
    page.keyboard.press("/")
    page.keyboard.type("entry point", delay=20)
    page.wait_for_function("document.body.innerText.includes('Adding a data source')", timeout=10_000)
    context.close()
