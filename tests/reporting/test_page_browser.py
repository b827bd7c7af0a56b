"""The page as a person reads it: it opens, starts with the answer, and every list leads to its evidence.

Comments like "check 7" in the tests of the page count the browser checks of the study `report.md`, section 4.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import PLACE, no_faults, opened
from report_fixture import large, photos

from simpipe.reporting import render
from simpipe.reporting.content import Content

pytestmark = pytest.mark.browser


# checks 7, 8, 11
def test_it_opens_offline_without_a_fault_or_a_request(page: Any, file: Path) -> None:
    assert no_faults(page), page.faults
    assert [url for url in page.asked if not url.startswith(("data:", "blob:"))] == [file.as_uri()]
    assert page.evaluate("[...Bokeh.index][0].canvas_view.webgl != null")


# check 9
def test_it_is_idle_soon(page: Any) -> None:
    """In processor time, for others run beside it; `tests.benchmarks.page` looks at the clock."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.evaluate("new Promise(requestIdleCallback)")
    assert page.evaluate("Bokeh.documents[0].is_idle")
    spent = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    assert 0 < spent["TaskDuration"] < 2


# checks 4, 10
def test_the_first_screen_has_the_verdict(page: Any, run: Content) -> None:
    page.evaluate("scrollTo(0, 0)")
    accuracy = page.locator(".tile", has_text="accuracy@1").first
    gain = page.locator(".tile", has_text="gain over pretrained")
    for part in (page.locator(".verdict"), accuracy, gain, page.locator("#next .steps")):
        box = part.bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= 768
    metric = run.metrics["blocks"]["seen"]["metrics"]["accuracy@1"]
    assert accuracy.locator("data").get_attribute("value") == str(metric["value"])
    low, high = (f"{100 * metric[end]:.1f}" for end in ("low", "high"))
    assert f"[{low}, {high}]" in accuracy.inner_text()
    assert "+7.9 points" in gain.inner_text() and "[+6.4, +9.5]" in gain.inner_text()


# check 3, after the script has added its part
def test_ids_stay_unique_under_one_heading(page: Any) -> None:
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((element) => element.id)")
    assert len(set(ids)) == len(ids)
    assert page.locator("h1").count() == 1
    assert page.evaluate("document.compatMode") == "CSS1Compat"


# check 18
def test_a_cell_of_the_matrix_shows_its_mistakes(page: Any, run: Content) -> None:
    cell = page.locator(".matrix [data-true]").first
    true, predicted = (int(cell.get_attribute(f"data-{side}") or -1) for side in ("true", "predicted"))
    cell.focus()
    page.keyboard.press("Enter")
    rows = page.evaluate(
        "[...document.querySelectorAll('#mistake-list > li')].map((li) => Number(li.dataset.row))"
    )
    expected = np.flatnonzero((run.label_id == true) & (run.predicted == predicted) & (run.correct == 0))
    assert sorted(rows) == expected.tolist() and len(rows) == run.confusion[true, predicted]
    assert page.locator("#legend-list [aria-pressed=true]").count() == 2
    page.locator("#mistake-pair button").click()
    assert page.locator("#legend-list [aria-pressed=true]").count() == 0
    assert page.locator("#mistake-list > li").count() == min(20, int((run.correct == 0).sum()))


# check 19
def test_the_label_table_sorts_and_searches(page: Any, run: Content) -> None:
    def shown(cell: str = "th") -> list[str]:
        texts = page.locator(f"#label-table tbody tr:visible {cell}").all_text_contents()
        return [text.strip() for text in texts]

    page.locator("#label-table thead button", has_text="label").first.click()
    first = shown()
    page.locator("#label-table thead button", has_text="label").first.click()
    assert shown() == first[::-1]
    page.locator("#label-table thead button", has_text="train").click()
    counts = [int(text) for text in shown("td:nth-child(2)")]
    assert counts == sorted(counts) and sum(counts) == run.split.count("train")
    page.locator("[data-filters=label-table]").fill("007")
    assert shown() == ["007"]
    page.locator("[data-filters=label-table]").fill("no such label")
    assert shown() == [] and page.locator("#relations output").inner_text() == "0 found"
    page.locator("[data-filters=label-table]").fill("")
    assert len(shown()) == len(run.labels) and page.locator("#relations output").inner_text() == ""


def some_photos(rows: Sequence[int]) -> list[bytes]:
    """One in eight: to encode ten thousand takes longer than all else."""
    return [photos([row])[0] if row % 8 == 0 else b"" for row in rows]


# check 20, and 26: what hovers cost
def test_ten_thousand_images(browser: Any, tmp_path: Path) -> None:
    run = replace(large(10_000), thumbnails=some_photos)
    path = tmp_path / "large.html"
    path.write_text(render(run), encoding="utf-8")
    page = opened(browser, path)
    mistakes = page.locator("#mistake-list > li")
    assert mistakes.count() == 20
    page.locator("#more-mistakes").click()
    assert mistakes.count() == 40
    page.evaluate("document.getElementById('map-plot').scrollIntoView({block: 'center'})")
    for row in range(0, 10_000, 400):
        page.mouse.move(*page.evaluate(PLACE, row))
        page.wait_for_selector("#card:not([hidden])")
    heap = page.context.new_cdp_session(page)
    heap.send("HeapProfiler.collectGarbage")
    assert heap.send("Runtime.getHeapUsage")["usedSize"] < 150e6
    assert no_faults(page), page.faults
    page.context.close()
