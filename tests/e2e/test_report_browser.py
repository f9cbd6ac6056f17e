"""The report in a real browser, as a colleague opens it: from a file, on a desk or a phone."""

from __future__ import annotations

import pytest

from feathertune.report import render_report
from study_factory import METHODS, write_study

ATTACK = '<img src=x onerror="window.hacked=1">'
SCRIPT = "</script><script>window.hacked=2</script>"
SIZES = {"phone": {"width": 375, "height": 812}, "desktop": {"width": 1280, "height": 900}}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Three seeds, a failed method, and markup wherever users can put words."""
    folder = tmp_path_factory.mktemp("study")
    write_study(
        folder,
        seeds=2,
        n_test=300,
        labels=(ATTACK, "fine & <b>bold</b>"),
        texts=(f"{ATTACK} as a text", f"{SCRIPT} and on", "an unbroken line " + "x" * 400),
        failed="tfidf",
        error=f"ValueError: {ATTACK}",
    )
    return render_report(folder)


def _open(watched, report, size="desktop"):
    watched.page.set_viewport_size(SIZES[size])
    watched.page.goto(report.as_uri())
    return watched.page


@pytest.mark.parametrize("size", SIZES)
def test_opens_quietly_and_asks_nobody(browser_page, report, size):
    page = _open(browser_page, report, size)
    page.wait_for_load_state("networkidle")
    assert browser_page.problems == []
    assert browser_page.requests == [report.as_uri()]
    assert page.title() == "sample:minilm on sample:imdb – feathertune"


def test_policy_forbids_the_network(browser_page, report):
    page = _open(browser_page, report)
    refused = page.evaluate("fetch('https://example.org/').then(() => 'reached', () => 'refused')")
    assert refused == "refused"
    assert any("Content Security Policy" in problem for problem in browser_page.problems)


def test_table_has_a_row_for_each_method(browser_page, report):
    page = _open(browser_page, report)
    names = page.locator("#summary tbody th .method bdi").all_inner_texts()
    assert sorted(names) == sorted(method.name for method in METHODS if method.name != "tfidf")
    assert page.locator("#summary tbody tr.chosen bdi").first.inner_text() == "lora"
    assert "tfidf" in page.locator(".failed").inner_text()


@pytest.mark.parametrize("size", SIZES)
def test_charts_are_drawn(browser_page, report, size):
    page = _open(browser_page, report, size)
    charts = [chart for chart in page.locator("svg.chart").all() if chart.is_visible()]
    assert len(charts) >= 1 + 3 + 2 + 5 + 1  # intervals, costs, two trained methods, confusions, changes
    for chart in charts:
        assert chart.get_attribute("role") == "img"
        assert chart.get_attribute("aria-label")
        boxes = chart.evaluate(
            "e => [...e.querySelectorAll('.mark, .cell')].map(m => m.getBoundingClientRect())"
            ".map(r => [r.width, r.height, r.left, r.right])"
        )
        assert boxes
        for width, height, left, right in boxes:
            assert width > 0
            assert height > 0
            assert left >= 0
            assert right <= SIZES[size]["width"]


def test_markup_of_users_is_shown_and_not_run(browser_page, report):
    page = _open(browser_page, report)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1
    assert page.locator("main b b, main .class b").count() == 0
    assert any(f"{ATTACK} as a text" in text for text in page.locator(".example .text").all_inner_texts())
    assert any(text == ATTACK for text in page.locator(".example .class").all_inner_texts())
    assert f"ValueError: {ATTACK}" in page.locator(".failed").inner_text()
    assert "<img src=x" in "".join(page.locator("#confusions svg text").all_text_contents())


def test_hovering_shows_the_words_of_a_mark(browser_page, report):
    page = _open(browser_page, report)
    cell = page.locator("#confusions .cell").first
    cell.scroll_into_view_if_needed()
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")  # scrolling hides it
    cell.hover()
    tip = page.locator("#tip")
    assert tip.is_visible()
    assert "<img src=x" in tip.inner_text()
    assert page.locator("#tip *").count() == 0


@pytest.mark.parametrize("size", SIZES)
def test_body_never_scrolls_sideways(browser_page, report, size):
    page = _open(browser_page, report, size)
    for unfolded in (False, True):
        page.evaluate(f"document.querySelectorAll('details').forEach(d => {{ d.open = {str(unfolded).lower()}; }})")
        scrolled, inner = page.evaluate("[document.scrollingElement.scrollWidth, innerWidth]")
        assert scrolled <= inner


def test_first_screen_answers_on_a_desk(browser_page, report):
    page = _open(browser_page, report)
    for selector in (".verdict", ".facts", ".caveats", ".why summary"):
        box = page.locator(selector).bounding_box()
        assert box["y"] + box["height"] < 800
    assert page.locator(".facts dt").all_inner_texts() == ["Evidence", "Cost", "Ship it"]
    assert page.locator(".facts pre").inner_text().startswith("feathertune ")
    assert 1 <= page.locator(".caveats li").count() <= 3
    assert page.locator(".why[open]").count() == 0


def test_dark_is_dark_and_readable(browser_page, report):
    page = _open(browser_page, report)
    look = "e => { const s = getComputedStyle(e); return [s.backgroundColor, s.color]; }"
    light = page.locator("body").evaluate(look)
    page.emulate_media(color_scheme="dark")
    dark = page.locator("body").evaluate(look)
    assert light[0] != dark[0]
    for background, ink in (light, dark):
        assert _contrast(background, ink) > 7
    quiet = page.locator(".lead").first.evaluate(look)[1]
    assert _contrast(dark[0], quiet) > 4.5


def test_printing_unfolds_everything(browser_page, report):
    page = _open(browser_page, report)
    assert page.locator("details:not([open])").count() > 0
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_tables_sort(browser_page, report):
    page = _open(browser_page, report)
    page.get_by_role("button", name="Time").click()
    times = [float(cell.get_attribute("data-sort")) for cell in page.locator("#summary td:nth-child(6)").all()]
    assert times == sorted(times, reverse=True)
    page.get_by_role("button", name="Time").click()
    times = [float(cell.get_attribute("data-sort")) for cell in page.locator("#summary td:nth-child(6)").all()]
    assert times == sorted(times)


def _contrast(first: str, second: str) -> float:
    """Contrast ratio of two ``rgb(r, g, b)`` colours, by WCAG 2."""

    def luminance(colour: str) -> float:
        channels = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)
