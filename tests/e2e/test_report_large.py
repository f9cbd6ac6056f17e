"""A report of 40 methods with five seeds: small, soon open, nothing over anything else, accessible by axe's rules."""

import time

import pytest

from study_factory import FakeMethod, many_methods, write_study

pytestmark = pytest.mark.slow

WIDTHS = (360, 768, 1440)
# Texts of a drawing that lie on each other or leave it; of the page, what is wider than it or cut off by its own box.
CLASHES = """() => {
  const shown = e => e.getClientRects().length > 0;
  const found = [];
  for (const chart of [...document.querySelectorAll('svg.chart')].filter(shown)) {
    const frame = chart.getBoundingClientRect();
    const texts = [...chart.querySelectorAll('text')].filter(shown).map(t => [t, t.getBoundingClientRect()]);
    texts.forEach(([t, r], i) => {
      if (r.left < frame.left - 1 || r.right > frame.right + 1 || r.top < frame.top - 1 || r.bottom > frame.bottom + 1)
        found.push(`'${t.textContent}' leaves its chart (${chart.getAttribute('aria-label').slice(0, 40)})`);
      for (const [u, s] of texts.slice(i + 1)) {
        const w = Math.min(r.right, s.right) - Math.max(r.left, s.left);
        const h = Math.min(r.bottom, s.bottom) - Math.max(r.top, s.top);
        if (w > 1 && h > 3) found.push(`'${t.textContent}' lies on '${u.textContent}'`);
      }
    });
  }
  for (const e of [...document.querySelectorAll('main *')].filter(shown)) {
    const style = getComputedStyle(e);
    const cut = style.overflowX === 'hidden' || style.textOverflow === 'ellipsis';
    if (cut && e.scrollWidth > e.clientWidth + 1) found.push(`<${e.tagName}> ${e.textContent.slice(0, 40)} is cut off`);
  }
  const page = document.scrollingElement;
  if (page.scrollWidth > innerWidth) found.push(`the page is ${page.scrollWidth} wide`);
  return found;
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large") / "study"
    methods = (
        *many_methods(33),
        FakeMethod("lora:top_layers=3:target_modules=[query,value]", "peft", 0.7, 61.0, 9_000),
    )
    assert len(methods) == 40
    write_study(folder, methods=methods, seeds=5, n_test=2000, epochs=5)
    from feathertune.report import render_report

    return render_report(folder)


def test_it_is_small(report):
    assert report.stat().st_size < 1_500_000


def test_it_opens_in_under_a_second(browser, report):
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto("about:blank")
    took = []
    for _ in range(3):
        start = time.monotonic()
        page.goto(report.as_uri(), wait_until="load")
        page.locator("#summary tbody tr").first.wait_for()
        took.append(time.monotonic() - start)
    context.close()
    assert min(took) < 1.0, took


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_lies_over_anything_and_axe_finds_nothing_serious(browser, report, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.base", reason="axe-playwright-python is not installed")
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    page.goto(report.as_uri())
    for unfolded in (False, True):
        page.evaluate(f"document.querySelectorAll('details').forEach(d => {{ d.open = {str(unfolded).lower()}; }})")
        assert page.evaluate(CLASHES) == []
    page.evaluate(axe.AXE_FILE_PATH.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document).then(r => r)")
    assert len(found["passes"]) > 10, "axe has looked"
    serious = [
        f"{one['id']}: {one['help']}: {[node['html'][:120] for node in one['nodes'][:3]]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
    context.close()
    assert serious == []
