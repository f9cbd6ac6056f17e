"""A browser for whatever opens pages: Debian's Chromium, Chrome, or playwright's own; else a skip."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2e.cli import reviews, write_csv
from tiny import save_tiny_encoder

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class WatchedPage:
    """A page, and what went wrong or went out while it was open."""

    page: Page
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next((found for name in names if (found := shutil.which(name))), None)
    with sync_api.sync_playwright() as playwright:
        try:
            launched = playwright.chromium.launch(executable_path=executable, args=_ARGUMENTS)
        except sync_api.Error as error:
            if executable is not None:
                raise
            pytest.skip(f"no browser: none of {', '.join(names)}, nor playwright's own ({str(error).splitlines()[0]})")
        yield launched
        launched.close()


@pytest.fixture
def browser_page(browser: Browser) -> Iterator[WatchedPage]:
    """A fresh page of desktop size, with console messages, page errors and requests written down."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    watched = WatchedPage(context.new_page())
    watched.page.on("console", lambda message: watched.problems.append(f"{message.type}: {message.text}"))
    watched.page.on("pageerror", lambda error: watched.problems.append(f"page error: {error}"))
    watched.page.on("request", lambda request: watched.requests.append(request.url))
    yield watched
    context.close()


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT in a folder."""
    return save_tiny_encoder(tmp_path_factory.mktemp("base") / "tiny-bert", "bert")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of 120 labelled texts."""
    return write_csv(tmp_path_factory.mktemp("data") / "reviews.csv", reviews(120))
