"""The page as a person uses it, in a Chromium without network."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_fixture import HOSTILE, colour, content
from test_page import EDGES

from simpipe.reporting import render
from simpipe.reporting.content import Content

pytestmark = pytest.mark.browser

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
PLACE = """row => {
  const view = [...Bokeh.index][0], box = view.el.getBoundingClientRect();
  const {x, y} = view.model.document.get_model_by_name("points").data;
  return [box.left + view.frame.x_scale.compute(x[row]), box.top + view.frame.y_scale.compute(y[row])];
}"""
MEAN = """async picture => {
  const style = getComputedStyle(picture), image = new Image();
  image.src = style.backgroundImage.slice(5, -2);
  await image.decode();
  const scale = image.naturalWidth / parseFloat(style.backgroundSize);
  const [left, top] = style.backgroundPosition.split(" ").map((part) => -parseFloat(part) * scale);
  const side = parseFloat(style.width) * scale, canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const pen = canvas.getContext("2d");
  pen.drawImage(image, left + side / 4, top + side / 4, side / 2, side / 2, 0, 0, 1, 1);
  return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
}"""


@pytest.fixture(scope="module")
def run() -> Content:
    """300 images on a grid, so that no point lies under another."""
    grid = np.column_stack([np.arange(300) % 20, np.arange(300) // 20]).astype(np.float32)
    return replace(content(), xy=grid)


@pytest.fixture(scope="module")
def file(run: Content, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(run), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no Chromium at {CHROMIUM}")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield chromium
        chromium.close()


def opened(browser: Any, file: Path, **options: Any) -> Any:
    """The page, ready; what went wrong in it is in `page.faults`, what it asked for in `page.asked`."""
    page = browser.new_context(
        offline=True, **{"viewport": {"width": 1366, "height": 768}, **options}
    ).new_page()
    page.set_default_timeout(10_000)
    page.faults, page.asked = [], []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on(
        "console", lambda message: message.type in ("error", "warning") and page.faults.append(message.text)
    )
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector("body[data-ready]", timeout=20_000)
    return page


@pytest.fixture(scope="module")
def page(browser: Any, file: Path) -> Any:
    return opened(browser, file)


def no_faults(page: Any) -> bool:
    """Software WebGL warns of its slowness; nothing else may be said."""
    return [fault for fault in page.faults if "GL Driver Message" not in fault] == []


def hover(page: Any, row: int) -> Any:
    page.evaluate("document.getElementById('map-plot').scrollIntoView({block: 'center'})")
    page.mouse.move(5, 5)
    page.mouse.move(*page.evaluate(PLACE, row))
    page.wait_for_selector(f"#card[data-row='{row}']:not([hidden])")
    return page.locator("#card")


def test_it_opens_offline_without_a_fault_or_a_request(page: Any, file: Path) -> None:
    assert no_faults(page), page.faults
    assert [url for url in page.asked if not url.startswith(("data:", "blob:"))] == [file.as_uri()]
    assert page.evaluate("[...Bokeh.index][0].canvas_view.webgl != null")


def test_the_first_screen_has_the_verdict(page: Any, run: Content) -> None:
    page.evaluate("scrollTo(0, 0)")
    for selector in (".verdict", ".tile", "#next .steps"):
        box = page.locator(selector).first.bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= 768
    value = run.metrics["blocks"]["seen"]["metrics"]["accuracy@1"]["value"]
    assert page.locator(".tile data").first.get_attribute("value") == str(value)


@pytest.mark.parametrize("row", [0, 8, 255, 256, 299])
def test_hover_shows_the_picture_and_the_label_of_that_point(page: Any, run: Content, row: int) -> None:
    card = hover(page, row)
    np.testing.assert_allclose(
        page.evaluate(MEAN, card.locator(".picture").element_handle()), colour(row), atol=16
    )
    label = run.labels[run.label_id[row]] or "(empty)"
    plain = label.replace("\u202e", "�").replace("\u2028", "�")
    assert card.locator("b").text_content() == (plain if len(plain) <= 60 else plain[:59] + "…")


def test_hover_tells_a_mistake(page: Any, run: Content) -> None:
    row = int(np.flatnonzero(run.correct == 0)[0])
    text = hover(page, row).locator(".wrong").text_content()
    assert "taken for" in text


def test_tap_opens_the_neighbours_in_their_order(page: Any, run: Content) -> None:
    hover(page, 123)
    page.mouse.click(*page.evaluate(PLACE, 123))
    page.wait_for_selector("#panel[data-row='123']")
    rows = page.evaluate(
        "[...document.querySelectorAll('#panel li')].map((item) => Number(item.dataset.row))"
    )
    assert rows == run.neighbour_ids[123, :10].tolist()
    shown = [float(text) for text in page.locator("#panel li small").all_text_contents()]
    np.testing.assert_allclose(shown, 1 - run.neighbour_distances[123, :10], atol=6e-4)
    assert len(page.evaluate("[...Bokeh.index][0].model.document.get_model_by_name('near').data.x")) == 10
    page.locator("#panel li .thumb").nth(2).click()
    assert page.locator("#panel").get_attribute("data-row") == str(rows[2])
    picture = page.locator("#panel .subject .picture").element_handle()
    np.testing.assert_allclose(page.evaluate(MEAN, picture), colour(rows[2]), atol=16)


def test_find_an_image_by_its_name_with_the_keyboard(page: Any, run: Content) -> None:
    page.locator("#image-name").fill("PHOTO 77.")
    page.keyboard.press("Enter")
    assert page.locator("#panel").get_attribute("data-row") == "77"
    page.locator("#image-name").fill("no such file")
    page.keyboard.press("Enter")
    assert page.locator("#find-result").text_content() == "0 found"


def test_a_label_can_be_found_and_others_fade(page: Any, run: Content) -> None:
    code = "[...[...Bokeh.index][0].model.document.get_model_by_name('points').data.code]"
    page.locator("#label-name").fill("gala")
    entries = page.locator("#legend-list li:not([hidden]) button")
    assert entries.count() == 1
    entries.first.click()
    faded = np.array(page.evaluate(code)) == 8
    np.testing.assert_array_equal(~faded, run.label_id == run.labels.index("Royal Gala"))
    page.locator("#show-all").click()
    assert 8 not in page.evaluate(code)
    page.locator("#label-name").fill("")
    page.locator("#colour-by").select_option("outcome")
    rings = page.evaluate("[...Bokeh.index][0].model.document.get_model_by_name('mistakes').data.x.length")
    assert rings == (run.correct == 0).sum()
    page.locator("#colour-by").select_option("label")


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
    assert page.locator("#mistake-list > li").count() == min(50, int((run.correct == 0).sum()))


def test_the_label_table_sorts_and_searches(page: Any) -> None:
    def shown() -> list[str]:
        return [text.strip() for text in page.locator("#label-table tbody tr:visible th").all_text_contents()]

    page.locator("#label-table thead button", has_text="label").first.click()
    first = shown()
    page.locator("#label-table thead button", has_text="label").first.click()
    assert shown() == first[::-1]
    page.locator("[data-filters=label-table]").fill("007")
    assert shown() == ["007"]
    page.locator("[data-filters=label-table]").fill("")


def test_names_are_text_and_nothing_else(page: Any, run: Content) -> None:
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    for button in page.locator("#mistake-filters [data-show]").all():
        button.click()
    page.locator("#mistake-filters [data-show=all]").click()
    for row in range(len(HOSTILE)):
        hover(page, row)
    assert page.evaluate("window.__xss") is None
    assert (
        page.evaluate("document.querySelectorAll('main img, main script, svg[onload], main iframe').length")
        == 0
    )
    legend = page.locator("#legend-list .name").all_text_contents()
    assert {"<img src=x onerror=__xss=1>", "{{7*7}}", "@x{safe}", "$$x$$", "007", "__proto__"} <= set(legend)
    assert no_faults(page), page.faults


def test_the_network_is_closed_even_to_scripts(page: Any) -> None:
    attempt = "fetch('data:text/plain,x').then(() => 'open', () => 'closed')"
    assert page.evaluate(attempt) == "closed"
    page.faults.clear()


def test_dark_mode(browser: Any, file: Path) -> None:
    page = opened(browser, file, color_scheme="dark")
    paper, ink = (
        page.evaluate(f"getComputedStyle(document.body).{name}.match(/\\d+/g).map(Number)")
        for name in ("backgroundColor", "color")
    )
    assert max(paper) < 60 and min(ink) > 200
    assert (
        page.evaluate("[...Bokeh.index][0].model.select_one('name_text').glyph.text_color.value") == "#e8eaed"
    )
    assert no_faults(page)


def test_phone(browser: Any, file: Path) -> None:
    page = opened(browser, file, viewport={"width": 390, "height": 844}, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.evaluate("document.getElementById('map-plot').scrollIntoView({block: 'center'})")
    page.touchscreen.tap(*page.evaluate(PLACE, 150))
    page.wait_for_selector("#panel[data-row='150']")


def test_print_has_everything(browser: Any, file: Path) -> None:
    page = opened(browser, file)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    assert len(page.pdf()) > 50_000


@pytest.mark.parametrize("edge", ["no test queries", "no neighbours", "two images"])
def test_edges_open_without_a_fault(browser: Any, run: Content, tmp_path: Path, edge: str) -> None:
    path = tmp_path / "edge.html"
    path.write_text(render(EDGES[edge](run)), encoding="utf-8")
    page = opened(browser, path)
    hover(page, 1)
    page.mouse.click(*page.evaluate(PLACE, 1))
    page.wait_for_selector("#panel[data-row='1']")
    assert no_faults(page), page.faults
    page.context.close()
