"""The page for texts in a real browser, on a desk and on a phone; the bundles are none, the server is real."""

import re
import shlex
from dataclasses import replace

import pytest

from e2e.test_report_browser import _contrast
from serving import SMALL, FakeModel, FakeModels, listening

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")

from feathertune.serve.service import Service

ATTACK = '<img src=x onerror="window.hacked=1">'
LIMITS = replace(SMALL, queue_texts=500, request_texts=64, text_characters=2000, body_bytes=50_000, token_budget=2048)
PHONE = {"width": 360, "height": 740}
TOKEN = "a-long-secret"


class Opinion(FakeModel):
    """Likes one word; the rest is noise that words add to."""

    def __init__(self, name, word):
        super().__init__(name)
        self.word = word

    def answer(self, text):
        words = text.split()
        p = min(0.98, 0.1 + 0.7 * (self.word in words) + 0.001 * len(words))
        return ("good" if p > 0.5 else ATTACK), {ATTACK: 1 - p, "good": p}


class Liking(FakeModel):
    """Likes a piece of text, and remembers what it was asked."""

    def __init__(self, word):
        super().__init__("films")
        self.word, self.asked = word, []

    def answer(self, text):
        self.asked.append(text)
        p = 0.9 if self.word in text else 0.3
        return "إيجابي", {"إيجابي": p, "否定": 1 - p}


def service(token=None):
    return Service(
        FakeModels({name: Opinion(name, word) for name, word in (("films", "great"), ("food", "tasty"))}), LIMITS, token
    )


@pytest.fixture(scope="module")
def address():
    with listening(service()) as address:
        yield address


@pytest.fixture
def page(browser_page, address):
    browser_page.page.goto(address)
    browser_page.page.wait_for_selector("#bundles .check")
    return browser_page.page


def label(page, texts):
    page.fill("#texts", texts)
    page.get_by_role("button", name="Classify").click()
    page.get_by_text(re.compile(r"\d ms\.$")).wait_for()  # no waiting for a script: the policy forbids what that needs


def test_opens_quietly_and_asks_its_own_server_only(browser_page, page, address):
    label(page, "a great film")
    assert browser_page.problems == []
    assert all(url.startswith(address) for url in browser_page.requests)
    refused = page.evaluate("fetch('https://example.org/').then(() => 'reached', () => 'refused')")
    assert refused == "refused"
    assert any("Content Security Policy" in problem for problem in browser_page.problems)


def test_bundles_side_by_side_for_each_text(page):
    label(page, "a great film\n\n  tasty soup \n")
    cards = page.locator("article")
    assert cards.count() == 2
    assert cards.nth(0).locator(".side h3").all_inner_texts() == ["films", "food"]
    assert cards.nth(0).locator(".label").all_inner_texts() == ["good", ATTACK]
    assert cards.nth(1).locator(".label").all_inner_texts() == [ATTACK, "good"]
    assert cards.nth(0).locator(".side > div").nth(0).locator("dd").all_inner_texts() == ["80.3%", "19.7%"]
    left, right = (cards.nth(0).locator(".side > div").nth(i).bounding_box() for i in (0, 1))
    assert left["y"] == right["y"]
    assert page.locator("#status").inner_text().startswith("2 texts, 2 bundles, ")
    page.get_by_label("food").uncheck()
    page.get_by_label("One text per line").uncheck()
    label(page, "a great film\nand tasty soup")
    assert page.locator("article").count() == 1
    assert page.locator("article h3").all_inner_texts() == ["films"]
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0


def test_which_words_mattered(page):
    label(page, "a truly great film")
    column = page.locator("article .side > div").nth(0)
    column.get_by_text("Which words mattered").click()
    column.locator("ol.top").wait_for()
    assert column.locator("ol.top li").first.inner_text() == "great +70.1 points"
    assert column.locator("mark").all_inner_texts() == ["great"]
    assert column.locator(".words").inner_text() == "a truly great film"
    note = column.locator(".note").inner_text()
    assert "left out once" in note
    assert "not why a label is right" in note


@pytest.mark.parametrize(
    ("text", "word", "pieces"),
    [
        ("这部电影精彩，我喜欢。", "精彩", 4),
        ("หนังเรื่องนี้สนุกมาก", "สนุก", 4),
        ("この映画は素晴らしいです。", "素晴らしい", 4),
        ("Фильм прекрасный, да", "прекрасный,", 3),
        ("الفيلم رائع جدا!", "رائع", 3),
    ],
)
def test_which_words_mattered_where_no_spaces_stand_between_them(browser_page, text, word, pieces):
    likes = Liking(word)
    with listening(Service(FakeModels({"films": likes}), LIMITS, None)) as address:
        page = browser_page.page
        page.goto(address)
        page.wait_for_selector("#bundles .check")
        label(page, text)
        column = page.locator("article .side > div").first
        column.get_by_text("Which words mattered").click()
        column.locator("ol.top").wait_for()
        assert column.locator("ol.top li bdi").first.inner_text().startswith(word)
        assert column.locator(".words").inner_text() == text
        assert pieces <= len(likes.asked) - 1 <= 2 * pieces, likes.asked
        assert all(len(rest) < len(text) for rest in likes.asked[1:])
        assert browser_page.problems == []
        turned = "e => getComputedStyle(e).direction"
        assert page.locator("article > p").evaluate(turned) == ("rtl" if "ا" in text else "ltr")
        assert page.locator("#texts").evaluate(turned) == ("rtl" if "ا" in text else "ltr")
        assert page.locator("ol.top").evaluate(turned) == "ltr"


def test_a_word_alone_and_a_server_that_refuses_are_said(page):
    label(page, "great")
    column = page.locator("article .side > div").nth(0)
    column.get_by_text("Which words mattered").click()
    column.get_by_text("The text has only one word.").wait_for()
    page.fill("#texts", "x" * 3000)
    page.get_by_role("button", name="Classify").click()
    page.wait_for_selector("#status.problem")
    assert "at most 2000 characters" in page.locator("#status").inner_text()
    page.fill("#texts", "   ")
    page.get_by_role("button", name="Classify").click()
    assert "Enter a text." in page.locator("#status").inner_text()


def test_by_keyboard_alone(page):
    page.keyboard.press("Tab")
    for _ in range(10):
        if page.evaluate("document.activeElement.id") == "texts":
            break
        page.keyboard.press("Tab")
    page.keyboard.type("a great film")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("article")
    for _ in range(20):
        if page.evaluate("document.activeElement.tagName") == "SUMMARY":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("ol.top")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"


def test_the_curl_call_is_what_the_page_asks(page, address):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.fill("#texts", "it's a great film\nsecond")
    page.get_by_role("button", name="Copy as curl").click()
    page.wait_for_selector("#curl:not([hidden])")
    shown = page.locator("#curl").inner_text()
    words = shlex.split(shown.replace("\\\n", " "))
    assert words[:2] == ["curl", f"{address}/v1/models/films:predict"]
    assert words[words.index("-d") + 1] == '{"texts":["it\'s a great film","second"]}'
    assert page.evaluate("navigator.clipboard.readText()") == shown
    assert page.locator("#status").inner_text() == "Copied."


def test_on_a_phone_nothing_scrolls_sideways(page):
    page.set_viewport_size(PHONE)
    label(page, "a great film " + "x" * 300)
    page.locator("summary").first.click()
    page.wait_for_selector("ol.top")
    page.get_by_role("button", name="Copy as curl").click()
    scrolled, inner = page.evaluate("[document.scrollingElement.scrollWidth, innerWidth]")
    assert scrolled <= inner
    boxes = [page.locator("article .side > div").nth(i).bounding_box() for i in (0, 1)]
    assert boxes[1]["y"] >= boxes[0]["y"] + boxes[0]["height"], "one below the other"
    for button in page.get_by_role("button").all():
        assert button.bounding_box()["height"] >= 40


def test_dark_is_dark_and_readable(page):
    label(page, "a truly great film")
    look = "e => { const s = getComputedStyle(e); return [s.backgroundColor, s.color]; }"
    light = page.locator("body").evaluate(look)
    page.emulate_media(color_scheme="dark")
    dark = page.locator("body").evaluate(look)
    assert light[0] != dark[0]
    for background, ink in (light, dark):
        assert _contrast(background, ink) > 7
    quiet = page.locator("#texts-note").evaluate(look)[1]
    assert _contrast(dark[0], quiet) > 4.5
    button, ink = page.locator("#go").evaluate(look)
    assert _contrast(button, ink) > 4.5


def test_asks_for_the_token_and_keeps_it_to_itself(browser_page):
    with listening(service(TOKEN)) as address:
        page = browser_page.page
        page.goto(address)
        page.wait_for_selector("#ask-token:not([hidden])")
        assert page.locator("#status").inner_text() == "The server requires a token."
        page.fill("#token", "wrong-secret")
        page.keyboard.press("Tab")
        page.get_by_text("The token is wrong.").wait_for()
        page.fill("#token", TOKEN)
        page.keyboard.press("Tab")
        page.wait_for_selector("#bundles .check")
        label(page, "a great film")
        assert page.locator("article .label").first.inner_text() == "good"
        page.get_by_role("button", name="Copy as curl").click()
        shown = page.locator("#curl").inner_text()
        assert "Authorization: Bearer $FEATHERTUNE_TOKEN" in shown
        assert TOKEN not in shown
        assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
        assert not any(TOKEN in url for url in browser_page.requests)


def test_the_api_for_a_person(browser_page, address):
    page = browser_page.page
    page.set_viewport_size(PHONE)
    page.goto(f"{address}/docs")
    page.wait_for_selector("article")
    assert browser_page.problems == []
    headings = page.locator("article h2").all_inner_texts()
    assert any("POST" in one and "/v1/models/{name}:predict" in one for one in headings)
    page.locator("summary").first.click()
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    scrolled, inner = page.evaluate("[document.scrollingElement.scrollWidth, innerWidth]")
    assert scrolled <= inner
    assert "maxItems" in page.locator("article").filter(has_text=":predict").inner_text()
