"""Write the pictures of the terminal, the report and the server's page from a real study.

Run after ``make demo``: ``python docs/make_pictures.py runs/demo``. Set CHROMIUM to use another browser than
playwright's own.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.text import Text

from feathertune.records import load_study

FOLDER = Path(__file__).with_name("pictures")
SIZE = {"width": 1280, "height": 800}
COMMAND = "$ feathertune compare --out runs/demo\n\n"
REVIEW = "A quiet film that earns every tear."


def main() -> None:
    """Write all pictures."""
    study = Path(sys.argv[1])
    FOLDER.mkdir(exist_ok=True)
    FOLDER.joinpath("terminal.svg").write_text(terminal(study), encoding="utf-8")
    bundle = next(study / run.bundle for run in load_study(study).runs if run.bundle is not None)
    report = (study / "report.html").resolve().as_uri()
    with sync_playwright() as tools, served(bundle) as server:
        browser = tools.chromium.launch(executable_path=os.environ.get("CHROMIUM"), args=["--no-sandbox"])
        for theme in ("light", "dark"):
            page = browser.new_page(viewport=SIZE, color_scheme=theme)
            page.goto(report)
            save(page, f"report-{theme}")
            page.goto(server)
            classify(page)
            save(page, f"server-{theme}")
        browser.close()


def terminal(study: Path) -> str:
    """Return the output of ``feathertune report STUDY`` in a terminal of 80 columns."""
    command = [sys.executable, "-m", "feathertune", "report", str(study)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "80"})
    console = Console(record=True, width=80, file=open(os.devnull, "w"))  # noqa: SIM115 - until the process ends
    console.print(Text(COMMAND + done.stdout.rstrip()), soft_wrap=False)
    drawn = console.export_svg(title="feathertune", unique_id="terminal")
    return re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)  # fonts from a network


@contextlib.contextmanager
def served(bundle: Path) -> Iterator[str]:
    """Serve a bundle during the block, and yield the page's address."""
    command = [sys.executable, "-m", "feathertune", "serve", str(bundle), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        yield next(found[0] for line in process.stderr if (found := re.search(r"http://[\d.]+:\d+", line)))
    finally:
        process.terminate()
        process.wait()


def classify(page: Page) -> None:
    """Classify a text on the server's page."""
    page.get_by_role("textbox").first.fill(REVIEW)
    page.get_by_role("button", name="Classify").click()
    page.wait_for_timeout(1_500)


def save(page: Any, name: str) -> None:
    """Save what the window shows."""
    page.wait_for_timeout(300)
    page.screenshot(path=FOLDER / f"{name}.png")


if __name__ == "__main__":
    main()
