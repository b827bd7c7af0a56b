"""Labels, file names and configuration are data: nothing of them runs, and nothing leaves the page."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from browser import hover, no_faults
from report_fixture import HOSTILE, content

from simpipe.reporting import render
from simpipe.reporting.content import Content
from simpipe.reporting.map import bokeh_js
from simpipe.reporting.payload import uncompressed
from simpipe.reporting.text import clean, short

pytestmark = pytest.mark.browser

USE_EVERYTHING = """() => {
  for (const details of document.querySelectorAll("details")) details.open = true;
  for (const select of document.querySelectorAll("select")) {
    for (const option of [...select.options].reverse()) {
      select.value = option.value;
      for (const kind of ["input", "change"]) select.dispatchEvent(new Event(kind, { bubbles: true }));
    }
  }
  for (const button of document.querySelectorAll("button:not(.thumb), [role=button]")) {
    for (let press = 0; press < 2; press++) button.dispatchEvent(new MouseEvent("click", { bubbles: true }));
  }
  for (const input of document.querySelectorAll("input")) {
    const [before, range] = [input.value, input.type === "range" || input.type === "number"];
    for (const value of [range ? input.max : "<img src=x onerror=__xss=1>", before]) {
      if (input.type === "checkbox" || input.type === "radio") input.click();
      else input.value = value;
      for (const kind of ["input", "change"]) input.dispatchEvent(new Event(kind, { bubbles: true }));
    }
  }
}"""
VIOLATED = """attempt => new Promise((done) => {
  document.addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective));
  setTimeout(() => done("nothing"), 5000);
  attempt === "fetch" ? fetch("https://x").catch(() => null) : new Image().src = "https://x/y.png";
})"""


# check 21
def test_names_are_text_and_nothing_else(page: Any, run: Content) -> None:
    page.evaluate(USE_EVERYTHING)
    for row in range(len(HOSTILE)):
        card = hover(page, row)
        assert card.locator("b").text_content() == short(clean(HOSTILE[row]))
    for row in range(len(HOSTILE)):
        page.locator("#image-name").fill(clean(run.path[row]))
        page.keyboard.press("Enter")
        assert short(clean(run.path[row]), 70) in page.locator("#panel code").all_text_contents()
    assert page.evaluate("window.__xss") is None
    assert page.evaluate("typeof MathJax") == "undefined"
    added = "main img:not([src^='data:image/webp']), main script, svg[onload], iframe, object, embed"
    assert page.locator(added).count() == 0
    for title in (page.locator("h1").inner_text(), page.title()):
        assert "<img src=x onerror=__xss=1>" in title and "{{7*7}}" in title
    assert no_faults(page), page.faults


# check 21
@pytest.mark.parametrize("place", ["#legend-list", "#label-table th"])
def test_every_name_stands_where_a_person_looks_for_it(page: Any, place: str) -> None:
    names = page.locator(f"{place} .name")
    shown = names.evaluate_all("found => found.map((each) => each.title || each.textContent)")
    assert {clean(name) for name in HOSTILE} <= set(shown)


# check 28
@pytest.mark.parametrize(("attempt", "directive"), [("fetch", "connect-src"), ("image", "img-src")])
def test_the_policy_closes_the_network_even_to_scripts(page: Any, attempt: str, directive: str) -> None:
    assert page.evaluate(VIOLATED, attempt) == directive
    page.faults.clear()


# check 2: of the machine that made the page, nothing but file names
def test_no_folder_of_the_machine_is_named(file: Path) -> None:
    text = file.read_text(encoding="utf-8").replace(bokeh_js(), "")
    data = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert data and "own.h5" in text
    for part in (text, str(uncompressed(data[1]))):
        assert re.findall(r"/(?:home|Users|root|tmp|work|usr|mnt)/[\w.]+", part) == []


# check 5: also in another process, where sets have another order
def test_equal_content_gives_equal_bytes_in_another_process() -> None:
    code = "import report_fixture, simpipe.reporting as r; print(r.render(report_fixture.content(60)))"
    environment = {
        "PYTHONHASHSEED": "1",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    there = subprocess.run([sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.PIPE)
    assert there.stdout == f"{render(content(60))}\n".encode()
