"""The points of the map: which image the mouse is on, what a click opens, what is grey."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import CHROMIUM, MEAN, PLACE, hover, no_faults, opened
from report_fixture import colour

from simpipe.reporting.content import Content
from simpipe.reporting.payload import uncompressed
from simpipe.reporting.text import clean, short

pytestmark = pytest.mark.browser

CODES = "[...[...Bokeh.index][0].model.document.get_model_by_name('points').data.code]"
LENGTH = "name => [...Bokeh.index][0].model.document.get_model_by_name(name).data.x.length"


@pytest.fixture(scope="module")
def row_of_tile(file: Path) -> np.ndarray:
    """The row whose picture is in tile 0, 1, … of the sheets of 16 × 16; the last sheet is not full."""
    data = re.search(r'id="data">(.*?)</script>', file.read_text(encoding="utf-8"), re.DOTALL)
    assert data
    tile = np.frombuffer(base64.b64decode(uncompressed(data[1])["tile"]), "<i4")
    return np.argsort(tile)


def tells(card: Any, run: Content, row: int) -> None:
    """The card is that of the row: its picture, its label, and whole on the screen."""
    np.testing.assert_allclose(
        card.page.evaluate(MEAN, card.locator(".picture").element_handle()), colour(row), atol=16
    )
    assert card.locator("b").text_content() == short(clean(run.labels[run.label_id[row]]))
    box = card.bounding_box()
    size = card.page.viewport_size
    assert box["x"] >= 0 and box["x"] + box["width"] <= size["width"]
    assert box["y"] >= 0 and box["y"] + box["height"] <= size["height"]


# check 13: the first and the last tile, both sides of a row's end, of a sheet's end
@pytest.mark.parametrize("tile", [0, 15, 16, 255, 256, 299])
def test_hover_shows_the_picture_and_the_label_of_that_point(
    page: Any, run: Content, row_of_tile: np.ndarray, tile: int
) -> None:
    row = int(row_of_tile[tile])
    tells(hover(page, row), run, row)


# check 13, at the four corners of the map
@pytest.mark.parametrize("row", [0, 19, 280, 299])
def test_the_card_stays_on_the_screen(page: Any, run: Content, row: int) -> None:
    tells(hover(page, row), run, row)


def test_hover_tells_a_mistake(page: Any, run: Content) -> None:
    row = int(np.flatnonzero(run.correct == 0)[0])
    assert "taken for" in hover(page, row).locator(".wrong").text_content()


# checks 14, 16
def test_of_stacked_points_the_nearest_is_shown_and_chosen(page: Any) -> None:
    page.evaluate("document.getElementById('map-plot').scrollIntoView({block: 'center'})")
    (x, y), (x2, y2) = page.evaluate(PLACE, 200), page.evaluate(PLACE, 202)
    assert 2 < x2 - x < 12 and y == y2  # within reach of one another
    for place, rows in (((x - 1, y), ("200", "201")), ((x2 + 1, y), ("202",))):
        page.mouse.move(5, 5)
        page.mouse.move(*place)
        page.wait_for_selector("#card:not([hidden])")
        assert page.locator("[role=tooltip]:visible").count() == 1
        row = page.locator("#card").get_attribute("data-row")
        assert row in rows
        page.mouse.click(*place)
        page.wait_for_selector(f"#panel[data-row='{row}']")


# check 15
def test_a_click_opens_the_neighbours_in_their_order(page: Any, run: Content) -> None:
    hover(page, 123)
    page.mouse.click(*page.evaluate(PLACE, 123))
    page.wait_for_selector("#panel[data-row='123']")
    rows = page.evaluate(
        "[...document.querySelectorAll('#panel li')].map((item) => Number(item.dataset.row))"
    )
    assert rows == run.neighbour_ids[123, :10].tolist() and 123 not in rows
    shown = [
        float(re.findall(r"\d\.\d+", text)[0]) for text in page.locator("#panel li small").all_text_contents()
    ]
    assert shown == sorted(shown, reverse=True)
    np.testing.assert_allclose(shown, 1 - run.neighbour_distances[123, :10], atol=6e-4)
    assert (page.evaluate(LENGTH, "chosen"), page.evaluate(LENGTH, "near")) == (1, 10)
    page.locator("#panel li .thumb").nth(2).click()
    assert page.locator("#panel").get_attribute("data-row") == str(rows[2])
    picture = page.locator("#panel .subject .picture").element_handle()
    np.testing.assert_allclose(page.evaluate(MEAN, picture), colour(rows[2]), atol=16)


@pytest.mark.parametrize("held", [0, 400])
def test_quick_and_slow_clicks_choose_as_well(page: Any, held: int) -> None:
    """Two within 300 ms are a double click to BokehJS, one of more than 300 ms a press."""
    for row in (60, 66):
        page.mouse.click(*page.evaluate(PLACE, row), delay=held)
    page.wait_for_selector("#panel[data-row='66']")


def test_find_an_image_by_its_name_with_the_keyboard(page: Any) -> None:
    page.locator("#image-name").fill("PHOTO 77 ")
    page.keyboard.press("Enter")
    assert page.locator("#panel").get_attribute("data-row") == "77"
    page.locator("#image-name").fill("no such file")
    page.keyboard.press("Enter")
    told = page.locator("#find-result").text_content()
    assert told.startswith("0 found") and "shorter part of the file or folder name" in told
    assert page.locator("#panel").get_attribute("data-row") is None, "what was chosen before is no answer"
    assert page.locator("#panel .picture").count() == 0 and page.evaluate(LENGTH, "chosen") == 0
    page.locator("#image-name").fill("")


# check 17
def test_a_label_can_be_found_and_others_fade(page: Any, run: Content) -> None:
    page.locator("#label-name").fill("gala")
    entries = page.locator("#legend-list li:not([hidden]) button")
    assert entries.count() == 1
    entries.first.click()
    faded = np.array(page.evaluate(CODES)) == 8
    np.testing.assert_array_equal(~faded, run.label_id == run.labels.index("Royal Gala"))
    page.locator("#show-all").click()
    assert 8 not in page.evaluate(CODES)
    page.locator("#label-name").fill("no such label")
    assert entries.count() == 0 and 8 not in page.evaluate(CODES)
    page.locator("#label-name").fill("")
    assert entries.count() == len(set(run.label_id.tolist()))


def test_mistakes_have_rings_where_right_and_wrong_are_coloured(page: Any, run: Content) -> None:
    page.locator("#colour-by").select_option("outcome")
    assert page.evaluate(LENGTH, "mistakes") == (run.correct == 0).sum()
    page.locator("#colour-by").select_option("label")


@pytest.fixture(scope="module")
def without_webgl(chromium: Any, file: Path) -> Iterator[Any]:
    arguments = ["--no-sandbox", "--disable-webgl", "--disable-gpu", "--disable-3d-apis"]
    launched = chromium.launch(executable_path=str(CHROMIUM), args=arguments)
    yield opened(launched, file)
    launched.close()


# check 12
def test_without_webgl_it_works_as_well(without_webgl: Any, run: Content) -> None:
    page = without_webgl
    assert page.evaluate("[...Bokeh.index][0].canvas_view.webgl == null")
    assert page.evaluate("Bokeh.documents[0].is_idle")
    tells(hover(page, 150), run, 150)
    page.mouse.click(*page.evaluate(PLACE, 150))
    page.wait_for_selector("#panel[data-row='150']")
    assert no_faults(page), page.faults
